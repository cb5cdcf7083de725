// The threshold slider; without JavaScript a table shows the same numbers.
(function () {
  var data = document.getElementById("confusion"), slider = document.getElementById("slider");
  if (!data || !slider) { return; }
  var rows = JSON.parse(data.textContent);
  function show() {
    rows[slider.value].forEach(function (text, place) { document.getElementById("cell" + place).textContent = text; });
  }
  slider.max = rows.length - 1;
  slider.value = rows.reduce(function (best, row, place) {
    return Math.abs(row[0] - 0.5) < Math.abs(rows[best][0] - 0.5) ? place : best;
  }, 0);
  slider.addEventListener("input", show);
  show();
})();
// Sections are unfolded where there is room, and while the page is printed.
(function () {
  var sections = document.querySelectorAll("details.section"), closed = [];
  function open(section) { section.open = true; }
  if (window.matchMedia("(min-width: 801px)").matches) { sections.forEach(open); }
  window.addEventListener("beforeprint", function () {
    closed = Array.prototype.filter.call(sections, function (section) { return !section.open; });
    closed.forEach(open);
  });
  window.addEventListener("afterprint", function () { closed.forEach(function (section) { section.open = false; }); });
})();
