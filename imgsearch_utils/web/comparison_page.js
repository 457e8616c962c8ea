// What the page of comparisons shows: a picture in the middle, a candidate on each side. Python (comparison_page.py)
// decides what comes next and knows what is on disk: the next question is shown only when Python answers that the last
// answer is in the journal. Names and words of the rubric are put in as text, never as HTML.

import { duration, make, remember, remembered } from "/tagger.js";

const SAID = { left: "saved: the left one", right: "saved: the right one", neither: "saved: neither" };

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  const rubric = model.get("rubric");
  const pictures = new Map(); // number -> {url, error}
  let state = null;
  let pending = null; // the act that is not on disk yet
  let sent = 0;
  let shownAt = 0;

  const progress = make("span", { className: "lt-progress" });
  const status = make("span", { className: "lt-status", role: "status" });
  const person = make("button", { className: "lt-person", type: "button", title: "Another annotator" });
  const bar = make("div", { className: "lt-bar-fill" });
  const keyed = (tag, className, cap, text, act) => {
    const element = make(tag, { className, type: "button" }, make("kbd", { textContent: cap }), make("span", { textContent: text }));
    element.addEventListener("click", act);
    return element;
  };
  const frame = (className) => make("figure", { className: `lt-figure ${className}` });
  const query = frame("cp-query");
  const sides = ["left", "right"].map((side) => {
    const figure = frame("");
    figure.addEventListener("click", () => answer(side));
    return make("div", { className: `cp-side cp-${side}` }, figure,
      keyed("button", "cp-answer", side === "left" ? "←" : "→", "This one is more like it", () => answer(side)));
  });
  const finished = make("div", { className: "lt-finished" },
    make("h3", { textContent: "That was the last question. Thank you!" }),
    make("p", { textContent: "Every answer is on disk. Start the page again for more questions. U takes the last answer back." }));
  const nameField = make("input", { type: "text", placeholder: "Your name", maxLength: 60, autocomplete: "off",
    ariaLabel: "Your name" });
  const nameForm = make("form", { className: "lt-name" }, make("h3", { textContent: "Who compares?" }),
    make("p", { textContent: "Your name stands beside each of your answers. You are asked once." }),
    make("div", {}, nameField, make("button", { className: "lt-start", textContent: "Start" })));
  const work = make("div", { className: "lt-work" },
    make("p", { className: "lt-title", textContent: "Which of the two is more like the framed picture?" }),
    make("div", { className: "cp-stage" }, sides[0], make("div", { className: "cp-middle" }, query,
      keyed("button", "cp-answer cp-neither", "↓", "Neither: both alike, or cannot say", () => answer("neither"))), sides[1]),
    finished,
    make("div", { className: "lt-tools" }, keyed("button", "lt-button lt-undo", "U", "Take the last answer back", () => undo())),
    make("p", { className: "lt-ignored", hidden: !rubric.ignored }, make("b", { textContent: "Does not count: " }), rubric.ignored));
  const root = make("div", { className: "lt-root", tabIndex: 0 }, make("header", {}, progress, status, person),
    make("div", { className: "lt-bar" }, bar), nameForm, work);
  root.setAttribute("aria-label", "Compare pictures");
  root.dataset.pending = "";
  el.append(root);

  nameForm.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = nameField.value.trim();
    if (!name) return;
    remember(name);
    model.send({ kind: "name", name });
    root.focus({ preventScroll: true });
  });
  person.addEventListener("click", () => askName(state.annotator));

  function askName(name) {
    nameField.value = name || remembered();
    root.classList.add("lt-asking");
    nameField.focus();
  }

  function say(text, kind = "") {
    status.textContent = text;
    status.className = `lt-status ${kind}`;
  }

  // ---- acts: sent, then waited for --------------------------------------------------------------------------------
  function post(message, notice) {
    if (pending || !state?.annotator) return;
    const serial = `${view}-${++sent}`;
    pending = { serial, notice, message: { ...message, serial, lines: state.lines } };
    root.dataset.pending = serial;
    pending.slow = setTimeout(() => say("saving …", "lt-waiting"), 250);
    pending.lost = setTimeout(() => say("No answer yet. All that you see counted is on disk.", "lt-error"), 4000);
    model.send(pending.message);
  }

  function answer(side) {
    if (!state?.pictures || !root.dataset.ready) return; // nothing is answered before it is seen
    const seconds = shownAt ? (performance.now() - shownAt) / 1000 : 0;
    post({ kind: "answer", place: state.place, names: state.pictures.map(({ name }) => name), side, seconds }, SAID[side]);
  }

  function undo() { post({ kind: "undo" }, "taken back"); }

  function settle() {
    [pending?.slow, pending?.lost].forEach(clearTimeout);
    pending = null;
    root.dataset.pending = "";
  }

  // The server was away. What it did not acknowledge is sent again; it writes it if the journal does not hold it.
  function goOn() {
    for (const [number, { url, error }] of pictures) if (!url && !error) pictures.delete(number);
    model.send({ kind: "hello", name: state?.annotator || remembered() });
    if (pending) model.send({ ...pending.message, again: true });
  }

  // ---- showing ----------------------------------------------------------------------------------------------------
  function showState(next) {
    const own = pending && next.serial === pending.serial;
    if (own) {
      say(pending.notice, "lt-saved");
      root.dataset.acknowledged = sent; // how many acts of this view are on disk
      settle();
    }
    if (state && state.known_as !== next.known_as) pictures.clear(); // other questions have these numbers now
    if (own || state?.place !== next.place) shownAt = 0;
    state = next;
    root.classList.toggle("lt-asking", !state.annotator);
    if (!state.annotator) return askName("");
    if (document.activeElement === document.body) root.focus({ preventScroll: true }); // keys work at once
    person.textContent = state.annotator;
    root.dataset.place = state.place;
    root.dataset.done = state.done;
    root.classList.toggle("lt-over", !state.pictures);
    const pace = state.pace ? ` · ${state.pace.toFixed(1)} s a question` : "";
    const left = state.total - state.done;
    const time = state.pace && left ? ` · about ${duration(left * state.pace)} left` : "";
    progress.replaceChildren(make("b", { textContent: `${state.done} of ${state.total}` }),
      `${pace}${time}${state.neither ? ` · ${state.neither} × neither` : ""}`);
    bar.style.width = `${(100 * state.done) / state.total}%`;
    want([...(state.pictures ?? []).map(({ number }) => number), ...state.ahead]);
    showPictures();
  }

  function showPictures() {
    if (!state?.pictures) return;
    const shown = state.pictures.map(({ number, name }) => ({ ...pictures.get(number), name }));
    fill(query, shown[0], "the framed picture");
    sides.forEach((side, i) => fill(side.firstChild, shown[i + 1], `the picture on the ${["left", "right"][i]}`));
    const ready = shown.every(({ url, error }) => url || error);
    root.dataset.ready = ready ? state.place : "";
    if (ready && !shownAt) shownAt = performance.now();
  }

  function fill(figure, { url, error, name }, alt) {
    figure.classList.toggle("lt-broken", Boolean(error));
    figure.replaceChildren(error ? make("p", { textContent: `This picture cannot be shown: ${error}` }) :
      url ? make("img", { src: url, alt, draggable: false }) : make("p", { textContent: "…" }),
      make("figcaption", { textContent: name }));
  }

  function want(numbers) {
    const kept = new Set(numbers);
    for (const [number, { url }] of pictures) {
      if (kept.has(number)) continue;
      if (url) URL.revokeObjectURL(url);
      pictures.delete(number);
    }
    const missing = [...kept].filter((number) => !pictures.has(number));
    missing.forEach((number) => pictures.set(number, {}));
    if (missing.length) model.send({ kind: "want", pictures: missing });
  }

  function receivePicture({ number, error }, [content]) {
    if (!pictures.has(number) || pictures.get(number).url) return;
    pictures.set(number, error ? { error } : { url: URL.createObjectURL(new Blob([content])) });
    showPictures();
  }

  // ---- keys and messages ------------------------------------------------------------------------------------------
  const KEYS = { ArrowLeft: () => answer("left"), ArrowRight: () => answer("right"), ArrowDown: () => answer("neither"),
    n: () => answer("neither"), u: () => undo() };

  root.addEventListener("keydown", (event) => {
    const run = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!run || nameForm.contains(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (!event.repeat) run(); // a key held down is one act
  });
  root.addEventListener("click", (event) => {
    if (event.detail && !nameForm.contains(event.target) && event.target !== person) root.focus({ preventScroll: true });
  });
  model.on("msg:custom", (content, buffers) => {
    if (content.kind === "state") showState(content);
    else if (content.kind === "picture") receivePicture(content, buffers);
    else if (content.kind === "back") goOn();
    else if (content.kind === "lost") [pending?.slow, pending?.lost].forEach(clearTimeout);
    else if (content.kind === "error") {
      if (pending?.serial === content.serial) settle();
      say(`Not saved: ${content.line}`, "lt-error");
    }
  });
  model.send({ kind: "hello", name: remembered() });
}

export default { render };
