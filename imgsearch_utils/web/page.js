// Gives a widget's module, as JupyterLab does, a `model` to talk to Python; here over a WebSocket of the page's server.
// It says when the server has stopped, and goes on when it is back: the widget then gets {kind: "back"}, and sends
// again what was not acknowledged.

const PING = 700; // ms from one question whether the server is there to the next
const SILENT = 2000; // ms without an answer after which that is said
const AGAIN = 500; // ms from one try to reach a server that has stopped to the next

const notice = document.getElementById("notice");
const listeners = new Set();
let start = null; // what the server said first
let socket = null;
let asked = 0; // when a ping was sent that is not answered yet

const model = {
  get: (name) => start.state[name],
  send(content, _, buffers = []) {
    if (socket.readyState !== WebSocket.OPEN) return; // the widget sends it again when the server is back
    socket.send(JSON.stringify({ content, buffers: buffers.length }));
    buffers.forEach((buffer) => socket.send(buffer));
  },
  on(_, listener) { listeners.add(listener); },
  off(_, listener) { listeners.delete(listener); },
};

function tell(content, buffers = []) { listeners.forEach((listener) => listener(content, buffers)); }

function say(text) {
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = !text;
}

async function begin(said) {
  if (start && JSON.stringify(said) !== JSON.stringify(start)) return location.reload(); // another run, other pairs
  if (start) return tell({ kind: "back" });
  start = said;
  const { default: widget } = await import(`/${said.widget}.js`);
  widget.render({ model, el: document.getElementById("page") });
}

async function lost(event) {
  asked = 0;
  if (event.code === 1013) say(`${event.reason}.`);
  else {
    tell({ kind: "lost" });
    const stopped = "The server has stopped. Everything you saw confirmed is saved.";
    const again = `Start it again: ${start?.command ?? "imgsearch serve, or imgsearch tag"}`;
    say(notice.hidden ? `${stopped} ${again}` : notice.textContent);
    const answer = await fetch("/api/health").catch(() => null);
    say(answer?.status === 401 ? `A server is here again, but not this page's. Everything you saw confirmed is saved; ` +
      "open the address that it printed when it started." : `${stopped} ${again}`);
  }
  setTimeout(connect, event.code === 1013 ? 5 * AGAIN : AGAIN);
}

function connect() {
  const here = new WebSocket(`ws://${location.host}${document.getElementById("page").dataset.talk}`);
  let head = null; // of a message whose buffers are on their way
  let buffers = [];
  socket = here;
  here.binaryType = "arraybuffer";
  here.onclose = lost;
  here.onmessage = ({ data }) => {
    asked = 0;
    say("");
    if (typeof data !== "string") buffers.push(data);
    else [head, buffers] = [JSON.parse(data), []];
    if (head.start) begin(head.start);
    else if (head.content && buffers.length === head.buffers) tell(head.content, buffers);
  };
}

setInterval(() => {
  if (socket.readyState !== WebSocket.OPEN) return;
  if (asked && performance.now() - asked > SILENT) say("The server does not answer. Everything you saw confirmed is saved.");
  if (asked) return;
  asked = performance.now();
  socket.send(JSON.stringify({ ping: 1 }));
}, PING);
connect();
