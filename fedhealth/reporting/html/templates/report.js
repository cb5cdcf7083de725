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
