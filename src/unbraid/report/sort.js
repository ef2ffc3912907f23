// A click on a header sorts the rows of its table; a second click reverses them.
document.querySelectorAll("table.sortable th button").forEach((button) => {
  button.addEventListener("click", () => {
    const header = button.parentElement;
    const place = header.cellIndex;
    const down = header.getAttribute("aria-sort") === "ascending";
    const body = header.closest("table").tBodies[0];
    const text = (row) => row.cells[place].textContent.trim();
    const number = (row) => parseFloat(text(row).replace(/,/g, ""));
    const numeric = header.classList.contains("number");
    const rows = Array.from(body.rows);
    rows.sort((a, b) => {
      if (!numeric) return text(a).localeCompare(text(b)) * (down ? -1 : 1);
      const [x, y] = [number(a), number(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // missing values are last
      return (x - y) * (down ? -1 : 1);
    });
    header.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  });
});
