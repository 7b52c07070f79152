"""Pages of the site that are made from files elsewhere: notebooks and the changelog."""

import base64
import glob
import json
import os
import re

from mkdocs.structure.files import File

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def on_files(files, config):
    """Adds a page for each notebook, with its figures, and one for CHANGELOG.md."""
    with open(os.path.join(ROOT, "CHANGELOG.md"), encoding="utf-8") as file:
        files.append(File.generated(config, "changelog.md", content=file.read()))
    for path in sorted(glob.glob(os.path.join(ROOT, "notebooks", "*.ipynb"))):
        name = os.path.splitext(os.path.basename(path))[0]
        with open(path, encoding="utf-8") as file:
            cells = json.load(file)["cells"]
        text, figures = as_page(cells, name)
        files.append(
            File.generated(config, "notebooks/{}.md".format(name), content=text)
        )
        for figure, data in figures.items():
            files.append(File.generated(config, "notebooks/" + figure, content=data))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links to notebooks lead to their pages, which are as wide as they can be."""
    if page.file.src_uri.startswith("notebooks/"):
        page.meta["hide"] = ["toc"]
    return re.sub(r"\.\./(notebooks/\w+)\.ipynb\)", r"\1.md)", markdown)


def on_page_content(html, page, config, files):
    """The table of contents of the programs has no line for each of hundreds."""
    if page.file.src_uri == "outcomes_programs.md":
        for item in page.toc:
            for section in item.children:
                section.children = []
    return html


def as_page(cells, name):
    """Markdown of the cells and their outputs.

    Below the title stands where the notebook is. A figure leads to itself, alone and as
    large as it is; its alternative text is the title and the last heading.

    Args:
      cells: list of dicts, of a notebook of version 4.
      name: str, what the names of the figures begin with.

    Returns:
      str, and a dict from the name of a figure to its bytes.
    """
    where = "*The notebook `notebooks/{}.ipynb`, as one run has left it.*".format(name)
    parts, figures, headings = [], {}, []
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            title, _, rest = source.partition("\n")
            parts.append(source if parts else "\n\n".join([title, where, rest]))
            headings += re.findall("^#+ (.+)$", source, re.MULTILINE)
            continue
        parts.append("```python\n{}\n```".format(source))
        for output in cell["outputs"]:
            data = output.get("data", {})
            text = "".join(output.get("text", data.get("text/plain", "")))
            if "image/png" in data:
                figure = "{}_{}.png".format(name, len(figures))
                figures[figure] = base64.b64decode("".join(data["image/png"]))
                told = headings[:1] + headings[1:][-1:]
                told = ", ".join(told)
                parts.append("[![{0}]({1})]({1})".format(told, figure))
            elif text:
                parts.append("```text\n{}\n```".format(text.rstrip("\n")))
    return "\n\n".join(parts) + "\n", figures
