// The server sends the content of the page after every change. Only what differs is changed, so that scroll positions,
// the selection, the focus and opened details stay.
function patch(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
  } else if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) { old.data = fresh.data; }
  } else {
    patchAttributes(old, fresh);
    patchChildren(old, fresh);
  }
}
function patchAttributes(old, fresh) {
  Array.from(old.attributes).forEach(function (each) {
    if (!fresh.hasAttribute(each.name) && each.name !== "open") { old.removeAttribute(each.name); }
  });
  Array.from(fresh.attributes).forEach(function (each) {
    if (old.getAttribute(each.name) !== each.value) { old.setAttribute(each.name, each.value); }
  });
}
function patchChildren(old, fresh) {
  var wanted = Array.from(fresh.childNodes);
  while (old.childNodes.length > wanted.length) { old.lastChild.remove(); }
  wanted.forEach(function (each, place) {
    if (place < old.childNodes.length) { patch(old.childNodes[place], each); } else { old.append(each); }
  });
}
(function () {
  var connection = document.getElementById("connection"), run = document.getElementById("run");
  var source = new EventSource("events");
  connection.textContent = "Live.";
  source.onopen = function () { connection.textContent = "Live."; };
  source.onerror = function () { connection.textContent = "The server does not reply; its last update is below."; };
  source.addEventListener("run", function (message) {
    var fresh = run.cloneNode(false);
    fresh.innerHTML = message.data;
    patch(run, fresh);
    document.querySelectorAll("input[type=search]").forEach(filterRows);
  });
  source.addEventListener("end", function () {
    source.close();
    connection.textContent = "The server has ended; its last update is below.";
  });
})();
