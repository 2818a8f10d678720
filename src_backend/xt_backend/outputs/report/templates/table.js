"use strict";
const rows = [...document.querySelectorAll("#slides tbody tr")];
const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
const box = document.getElementById("filter");
const shown = document.getElementById("shown");
box.hidden = false;
box.addEventListener("input", () => {
  const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let n = 0;
  for (const row of rows) {
    row.hidden = !wanted.every((word) => texts.get(row).includes(word));
    n += row.hidden ? 0 : 1;
  }
  shown.textContent = wanted.length ? `${n} of ${rows.length} lines` : "";
});
const heads = [...document.querySelectorAll("#slides th")];
const byWords = new Intl.Collator("en", { numeric: true }).compare;
const order = (a, b) => (Number.isNaN(a - b) ? byWords(a, b) : a - b);
heads.forEach((head, column) => {
  head.tabIndex = 0;
  head.title = "Sort by this column";
  const sort = () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const values = new Map(rows.map((row) => {
      const cell = row.cells[column];
      return [row, (cell.dataset.v ?? cell.textContent).trim()];
    }));
    rows.sort((one, other) => {
      const [a, b] = [values.get(one), values.get(other)];
      // What has no value comes last, either way.
      if (!a || !b) return !a - !b;
      return down ? order(b, a) : order(a, b);
    });
    document.querySelector("#slides tbody").append(...rows);
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => {
    if (event.key === "Enter") sort();
  });
});
