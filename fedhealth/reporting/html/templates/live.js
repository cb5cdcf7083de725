"use strict";
// The server sends the content of the page after every change.
(function () {
  var connection = document.getElementById("connection"), run = document.getElementById("run");
  var source = new EventSource("events");
  connection.textContent = "Live.";
  source.onopen = function () { connection.textContent = "Live."; };
  source.onerror = function () { connection.textContent = "The server does not reply; its last update is below."; };
  source.addEventListener("run", function (message) { run.innerHTML = message.data; });
  source.addEventListener("end", function () {
    source.close();
    connection.textContent = "The server has ended; its last update is below.";
  });
})();
