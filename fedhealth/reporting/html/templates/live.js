"use strict";
// The server sends the inside of the page whenever something has happened.
(function () {
  var connection = document.getElementById("connection"), run = document.getElementById("run");
  var source = new EventSource("events");
  connection.textContent = "Live.";
  source.onopen = function () { connection.textContent = "Live."; };
  source.onerror = function () { connection.textContent = "The server does not answer; what it said last stands below."; };
  source.addEventListener("run", function (message) { run.innerHTML = message.data; });
  source.addEventListener("end", function () {
    source.close();
    connection.textContent = "The server has ended; what it said last stands below.";
  });
})();
