// A column's heading sorts its table; without this script the page only lacks that.
for (const table of document.querySelectorAll("table:not(.pictures)")) {
  const heads = table.tHead.rows[0].cells;
  for (const head of heads) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.ariaSort !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.ariaSort = descending ? "descending" : "ascending";
      const key = (row) => {
        const text = row.cells[head.cellIndex].textContent.trim();
        const number = parseFloat(text.replace("−", "-"));
        return Number.isNaN(number) ? text : number;
      };
      const rows = [...table.tBodies[0].rows].sort((one, two) => {
        const [a, b] = [key(one), key(two)];
        if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
        const order = typeof a === "number" ? a - b : a.localeCompare(b);
        return descending ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  }
}
