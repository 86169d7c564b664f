// The filter of the package list; without scripts the whole list is there.
const filter = document.getElementById("filter");
if (filter) {
  const rows = Array.from(document.querySelectorAll("#packages tr"));
  const count = document.getElementById("shown");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = shown === rows.length ? `${rows.length}` : `${shown} of ${rows.length}`;
  });
}
