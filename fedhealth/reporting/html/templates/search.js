"use strict";
// Search fields: each hides the rows of its folded list whose name does not contain the text.
function filterRows(box) {
  var wanted = box.value.trim().toLowerCase();
  box.closest("details").querySelectorAll("tbody tr, .states li").forEach(function (row) {
    row.hidden = (row.cells ? row.cells[0] : row).textContent.toLowerCase().indexOf(wanted) < 0;
  });
}
document.documentElement.classList.add("js");
document.addEventListener("input", function (event) {
  if (event.target.type === "search") { filterRows(event.target); }
});
