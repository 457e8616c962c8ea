// What the labelling widget shows: a pair, or a query with a list of its results; where the run is being taught, also
// what it has learnt. Python (tagger.py, teaching.py) decides what comes next and knows what is on disk. This module
// shows the state that Python sends, sends acts to Python, and shows the next pair only when Python answers that the act
// is in the journal. What people are asked comes from the study's rubric, and is put in as text, never as HTML.

const KEPT_PICTURES = 80;
const COLUMNS = 4; // of a list
const NEWS = 1000; // ms from one question for what was learnt to the next
const SIDES = ["the left picture", "the right picture"];
const NAME_KEY = "imgsearch-annotator";

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function remembered() {
  try { return localStorage.getItem(NAME_KEY) ?? ""; } catch { return ""; }
}

function remember(name) {
  try { localStorage.setItem(NAME_KEY, name); } catch { /* a private window: asked again next time */ }
}

// The rules that a rubric may name: from the answers (y, n, or - for open) to a grade, or to null for no proposal.
const RULES = {
  none: () => null,
  thirds(answers) { // of the relevant answers, more than 2/3 yes is grade 3, 1/3 to 2/3 grade 2, fewer grade 1
    const yes = answers.filter((answer) => answer === "y").length;
    const relevant = answers.filter((answer) => answer !== "-").length;
    if (!relevant) return null;
    return 3 * yes > 2 * relevant ? 3 : 3 * yes >= relevant ? 2 : 1;
  },
};

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  const rubric = model.get("rubric");
  const pictures = new Map(); // number, or "s" and the number for a small one -> {url, shape, error}, oldest first
  let state = null;
  let answers = rubric.questions.map(() => "-");
  let pending = null; // the act that is not on disk yet
  let aim = null; // the place that arrow keys, pressed faster than Python answers, lead to
  let sent = 0;
  let shownAt = 0;

  // ---- the page -----------------------------------------------------------------------------------------------
  const button = (name, cap, title, act) => {
    const element = make("button", { className: `lt-button lt-${name.toLowerCase()}`, type: "button", title });
    element.append(make("kbd", { textContent: cap }), make("span", { textContent: name }));
    element.addEventListener("click", act);
    return element;
  };
  const bar = make("div", { className: "lt-bar-fill" });
  const progress = make("span", { className: "lt-progress" });
  const person = make("button", { className: "lt-person", type: "button", title: "Another annotator" });
  const framed = () => {
    const figure = make("figure", { className: "lt-figure", title: "Click or press Z to enlarge" });
    figure.addEventListener("click", () => zoom());
    return figure;
  };
  const figures = [framed(), framed()];
  const query = framed();
  const results = make("div", { className: "lt-results", role: "listbox", ariaLabel: "Results of the query" });
  const listHint = make("p", { className: "lt-hint" }, "Give a grade by key, or click: once 3, again 2, 1, 0. ",
    make("kbd", { textContent: "Enter" }), ` says of all that are left: ${rubric.grades[0]}.`);
  const rest = make("button", { className: "lt-rest", type: "button" }, make("kbd", { textContent: "Enter" }),
    make("span"));
  rest.addEventListener("click", () => actOnRest("grade"));
  const stage = make("div", { className: "lt-stage" }, ...figures,
    make("div", { className: "lt-list" }, query, make("div", {}, results, make("div", { className: "lt-under" },
      listHint, rest))));
  const title = make("p", { className: "lt-title", textContent: rubric.title });
  const grades = rubric.grades.map((name, grade) => {
    const element = make("button", { className: `lt-grade lt-grade-${grade}`, type: "button" },
      make("span", {}, make("kbd", { textContent: grade }), make("b", { textContent: name })),
      make("small", { textContent: rubric.hints[grade] }));
    element.addEventListener("click", () => act("grade", grade));
    return element;
  });
  const proposal = make("span", { className: "lt-proposal" });
  const boxes = rubric.questions.map((question, i) => {
    const box = make("button", { className: "lt-question", type: "button", title: `Shift+${i + 1}: yes, no, open` });
    box.append(make("i", { className: "lt-mark" }), make("span", { textContent: question }));
    box.addEventListener("click", () => ask(i));
    return box;
  });
  const questions = make("details", { className: "lt-rubric", open: true, hidden: !boxes.length },
    make("summary", {}, make("b", { textContent: "Questions" }),
      make("span", { textContent: "optional: a click says yes, another no, a third leaves it open" }), proposal),
    make("div", { className: "lt-questions" }, ...boxes));
  const ignored = make("p", { className: "lt-ignored", hidden: !rubric.ignored },
    make("b", { textContent: "Does not count: " }), rubric.ignored);
  const tools = make("div", { className: "lt-tools" },
    button("Skip", "S", "Leave this pair out; of a list, all that are left", () => skip()),
    button("Unsure", "R", "Let an adjudicator decide", () => act("unsure")),
    button("Undo", "U", "Take back the last act; again for the one before", () => undo()),
    button("Back", "←", "The pair before", () => go(-1)),
    button("Forward", "→", "The pair after", () => go(1)),
    button("Zoom", "Z", "Both pictures large", () => zoom()));
  const status = make("span", { className: "lt-status", role: "status" });
  const tally = make("div", { className: "lt-tally" });
  const agreement = make("span", { className: "lt-agreement" });
  const large = make("dialog", { className: "lt-large", ariaLabel: "Both pictures, large; Escape or Z closes" });
  large.addEventListener("click", () => large.close());
  const finished = make("div", { className: "lt-finished" });
  const nameField = make("input", { type: "text", placeholder: "Your name", maxLength: 60, autocomplete: "off",
    ariaLabel: "Your name" });
  const nameForm = make("form", { className: "lt-name" },
    make("h3", { textContent: "Who is grading?" }),
    make("p", { textContent: "Your name stands beside each of your grades. You are asked once." }),
    make("div", {}, nameField, make("button", { className: "lt-start", textContent: "Start" })));
  nameForm.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = nameField.value.trim();
    if (!name) return;
    remember(name);
    model.send({ kind: "name", name });
    root.focus({ preventScroll: true });
  });
  person.addEventListener("click", () => askName(state.annotator));
  const work = make("div", { className: "lt-work" }, stage, finished, title,
    make("div", { className: "lt-grades" }, ...grades), tools, questions, ignored);
  const learnt = lessonPanel(rubric, {
    picture: (number, name) => thumbnail(number, name),
    finish: () => post({ kind: "finish" }, "the round is being made"),
  });
  const root = make("div", { className: "lt-root", tabIndex: 0 },
    make("header", {}, progress, status, person), make("div", { className: "lt-bar" }, bar),
    nameForm, make("div", { className: "lt-both" }, work, learnt.element), make("footer", {}, tally, agreement), large);
  root.dataset.pending = ""; // the act that is on its way
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab leaves our keys alone
  root.setAttribute("aria-label", "Grade pairs of pictures");
  el.append(root);

  // ---- acts: sent, then waited for ------------------------------------------------------------------------------
  function post(message, notice) {
    if (pending || !state || root.classList.contains("lt-making")) return;
    const serial = `${view}-${++sent}`;
    pending = { serial, notice, message: { ...message, serial, lines: state.lines } }; // until the act is on disk
    root.dataset.pending = serial;
    pending.slow = setTimeout(() => showStatus("saving …", "lt-waiting"), 250);
    pending.lost = setTimeout(() => showStatus("No answer yet: Python is busy, or gone. All that you see counted is on " +
      "disk. In a notebook whose kernel was restarted, run the cell again.", "lt-error"), 4000);
    model.send(pending.message);
  }

  // The server was away. What it did not acknowledge is sent again; it writes it if the journal does not hold it.
  function goOn() {
    for (const [number, { url, error }] of pictures) if (!url && !error) pictures.delete(number);
    const here = state?.pictures ? { place: state.place, pair: names() } : {};
    model.send({ kind: "hello", name: state?.annotator || remembered(), ...here });
    if (pending) model.send({ ...pending.message, again: true });
  }

  function names() { return state.pictures.map(({ name }) => name); }

  function settle() {
    clearTimeout(pending?.slow);
    clearTimeout(pending?.lost);
    pending = null;
    root.dataset.pending = "";
  }

  function looked() { return shownAt ? (performance.now() - shownAt) / 1000 : 0; }

  function act(name, grade = null, place = state?.place, pair = null) {
    if (!state || state.place >= state.total) return;
    const written = answers.some((answer) => answer !== "-") ? answers.join("") : "";
    post({ kind: "act", place, pair: pair ?? names(), act: name, grade, seconds: looked(), answers: written },
      name === "grade" ? `saved: ${grade}, ${rubric.grades[grade]}` : `saved: ${name}`);
  }

  function open() { return (state?.list ?? []).filter(({ standing }) => standing === null); }

  function actOnRest(name) {
    const left = open().length;
    const pairs = state.list.map((result) => [state.pictures[0].name, result.name]);
    post({ kind: "rest", place: state.place, act: name, pairs, seconds: looked() },
      name === "skip" ? `left out: ${left}` : `saved: ${left} × 0, ${rubric.grades[0]}`);
  }

  function skip() {
    if (state?.list) actOnRest("skip");
    else act("skip");
  }

  // A click on a result says that it is similar; the next ones lower the grade.
  function clicked(result) {
    const grade = typeof result.standing === "number" ? (result.standing + 3) % 4 : 3;
    act("grade", grade, result.place, [state.pictures[0].name, result.name]);
  }

  function move(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -COLUMNS, ArrowDown: COLUMNS };
    const to = (aim ?? state.place) + steps[event.key];
    if (Math.abs(steps[event.key]) === 1 || state.list?.some(({ place }) => place === to)) go(steps[event.key]);
  }

  function undo() { post({ kind: "undo" }, "taken back"); }

  function go(step) {
    if (!state || pending) return;
    aim = Math.min(Math.max((aim ?? state.place) + step, 0), state.total);
    model.send({ kind: "go", place: aim });
  }

  function showStatus(text, kind = "") {
    status.textContent = text;
    status.className = `lt-status ${kind}`;
  }

  function ask(i) {
    answers[i] = { "-": "y", y: "n", n: "-" }[answers[i]];
    showAnswers();
  }

  function askName(name) {
    nameField.value = name || remembered();
    root.classList.add("lt-asking");
    nameField.focus();
  }

  // ---- showing ----------------------------------------------------------------------------------------------------
  function proposedGrade() { return RULES[rubric.rule](answers); }

  function showAnswers() {
    boxes.forEach((box, i) => { box.dataset.answer = answers[i]; });
    const grade = proposedGrade();
    grades.forEach((element, i) => element.classList.toggle("lt-proposed", i === grade));
    proposal.textContent = grade === null ? "" : `proposes ${grade} · Enter takes it`;
  }

  function showState(next) {
    const own = pending && next.serial === pending.serial;
    if (own || next.place === aim) aim = null;
    if (own) {
      showStatus(pending.notice, "lt-saved");
      root.dataset.acknowledged = sent; // how many acts of this view are on disk
      settle();
    }
    if (state && state.known_as !== next.known_as) pictures.clear(); // other pairs have these numbers now
    const moved = !state || state.place !== next.place || state.annotator !== next.annotator || own;
    if (state && next.round !== state.round) learnt.clear();
    state = next;
    root.classList.toggle("lt-asking", !state.annotator);
    if (!state.annotator) return askName("");
    if (document.activeElement === document.body) root.focus({ preventScroll: true }); // a page of its own: keys work
    const over = state.place >= state.total;
    root.classList.toggle("lt-over", over);
    root.dataset.place = state.place;
    root.dataset.done = state.done;
    if (moved) {
      answers = [...(state.standing?.answers ?? "").padEnd(boxes.length, "-")].slice(0, boxes.length);
      showAnswers();
      shownAt = 0;
    }
    grades.forEach((element, i) => element.classList.toggle("lt-standing", state.standing?.grade === i));
    root.dataset.standing = state.standing ? (state.standing.grade ?? state.standing.act) : "";
    person.textContent = state.annotator;
    showProgress();
    root.classList.toggle("lt-listing", Boolean(state.list) && !over);
    const [first, second] = (state.pictures ?? []).map((picture) => picture.number);
    const listed = (state.list ?? []).map(({ number }) => number);
    want([first, listed.length ? undefined : second, ...state.ahead]);
    want([...listed, ...state.ahead_small], true);
    if (over) {
      finished.replaceChildren(make("h3", { textContent: "That was the last pair. Thank you!" }),
        make("p", { textContent: `Every grade is on disk. ${state.next ?? ""} U takes the last one back, ← shows the ` +
          "pairs again." }));
      if (large.open) large.close();
    } else if (state.list) {
      showList();
    } else {
      showPictures();
    }
  }

  function showProgress() {
    const left = state.total - state.done;
    const pace = state.pace ? ` · ${state.pace.toFixed(1)} s a pair` : "";
    const time = state.pace && left ? ` · about ${duration(left * state.pace)} left` : "";
    progress.replaceChildren(make("b", { textContent: `${state.done} of ${state.total}` }), pace + time);
    bar.style.width = `${(100 * state.done) / state.total}%`;
    const most = Math.max(1, ...rubric.grades.map((_, grade) => state.counts[grade] ?? 0));
    tally.replaceChildren(...rubric.grades.map((name, grade) => {
      const count = state.counts[grade] ?? 0;
      const column = make("i", { className: `lt-grade-${grade}` });
      column.style.height = `${(100 * count) / most}%`;
      return make("span", { title: `grade ${grade}, ${name}: ${count}` },
        make("u", {}, column), make("b", { textContent: grade }), ` ${count}`);
    }), ...["skip", "unsure"].filter((name) => state.counts[name]).map((name) =>
      make("span", { textContent: `${name} ${state.counts[name]}` })));
    const parts = [["yourself", state.myself], ["others", state.others]].filter(([, [pairs]]) => pairs)
      .map(([whom, [pairs, same, kappa]]) => `with ${whom} ${percent(same)} of ${pairs}` +
        (kappa === null ? "" : ` (κ ${kappa.toFixed(2)})`));
    agreement.textContent = parts.length ? `Agreement ${parts.join(" · ")}` : "";
  }

  function showPictures() {
    const shown = state.pictures.map(({ number, name }) => ({ ...pictures.get(number), name }));
    figures.forEach((figure, side) => fill(figure, shown[side], SIDES[side]));
    stage.style.setProperty("--shapes", shown.reduce((sum, { shape }) => sum + (shape ?? 1), 0));
    arrived(shown);
  }

  function fill(figure, { url, error, shape, name }, alt) {
    figure.style.setProperty("--shape", shape ?? 1);
    figure.classList.toggle("lt-broken", Boolean(error));
    if (figure.dataset.url === (url ?? error ?? "") && figure.dataset.name === name) return;
    [figure.dataset.url, figure.dataset.name] = [url ?? error ?? "", name];
    figure.replaceChildren(error ? make("p", { textContent: `This picture cannot be shown: ${error}` }) :
      url ? make("img", { src: url, alt, draggable: false }) : make("p", { textContent: "…" }),
      make("figcaption", { textContent: name }));
  }

  function arrived(shown) {
    const ready = shown.every(({ url, error }) => url || error);
    root.dataset.ready = ready ? state.place : ""; // for who waits for the pictures of this place
    if (ready && !shownAt) shownAt = performance.now();
    if (large.open) fillLarge();
  }

  function showList() {
    const [{ number, name }] = state.pictures;
    const asked = { ...pictures.get(number), name };
    fill(query, asked, "the query");
    while (results.children.length > state.list.length) results.lastChild.remove();
    while (results.children.length < state.list.length) results.append(resultCard());
    const shown = state.list.map((result, i) => {
      const card = results.children[i];
      const { standing } = result;
      const said = standing === null ? "no grade yet" : typeof standing === "number" ?
        `grade ${standing}, ${rubric.grades[standing]}` : standing;
      card.result = result;
      card.classList.toggle("lt-current", result.place === state.place);
      card.ariaSelected = String(result.place === state.place);
      card.ariaLabel = `result ${i + 1} of ${state.list.length}: ${said}`;
      card.lastChild.className = typeof standing === "number" ? `lt-badge lt-grade-${standing}` : "lt-badge";
      card.lastChild.textContent = standing === null ? "" : typeof standing === "number" ? standing : "–";
      const picture = { ...pictures.get(`s${result.number}`), name: result.name };
      fill(card.firstChild, picture, "");
      return picture;
    });
    const left = open().length;
    rest.disabled = !left;
    rest.lastChild.textContent = left ? `the other ${left}: ${rubric.grades[0]}` : "all have a grade";
    arrived([asked, ...shown]);
  }

  function resultCard() {
    const card = make("div", { className: "lt-result", role: "option" }, make("figure", { className: "lt-figure" }),
      make("b", { className: "lt-badge" }));
    card.addEventListener("click", () => clicked(card.result));
    return card;
  }

  function fillLarge() {
    large.replaceChildren(...state.pictures.map(({ number }) => pictures.get(number) ?? {})
      .map(({ url }, side) => (url ? make("img", { src: url, alt: SIDES[side] }) : make("p", { textContent: "…" }))));
  }

  function zoom() {
    if (large.open) return large.close();
    if (!state || state.place >= state.total) return;
    want(state.pictures.map(({ number }) => number));
    fillLarge();
    large.showModal();
  }

  // ---- pictures: asked for by number, kept a while -----------------------------------------------------------------
  function want(numbers, small = false) {
    const known = (number) => (small ? `s${number}` : number);
    const missing = [...new Set(numbers)].filter((number) => number !== undefined && !pictures.has(known(number)));
    missing.forEach((number) => pictures.set(known(number), {}));
    if (missing.length) model.send({ kind: "want", pictures: missing, small });
    for (const number of numbers) { // those that were wanted last are kept
      const picture = pictures.get(known(number));
      if (picture && pictures.delete(known(number))) pictures.set(known(number), picture);
    }
    for (const [number, { url }] of pictures) {
      if (pictures.size <= KEPT_PICTURES) break;
      if (url) URL.revokeObjectURL(url);
      pictures.delete(number);
    }
  }

  async function receivePicture({ number, small, error }, [content]) {
    const known = small ? `s${number}` : number;
    if (pictures.get(known)?.url) return; // another view of this widget asked for it
    const picture = { error };
    if (!error) {
      picture.url = URL.createObjectURL(new Blob([content]));
      const image = make("img", { src: picture.url });
      try {
        await image.decode();
        picture.shape = Math.min(2.4, Math.max(0.5, image.naturalWidth / image.naturalHeight));
      } catch {
        Object.assign(picture, { url: null, error: "not a sound picture" });
      }
    }
    pictures.set(known, picture);
    if (state?.list) showList();
    else if (state?.pictures?.some((shown) => shown.number === number)) showPictures();
    learnt.arrived(number);
  }

  // A small picture that shows itself when it is there.
  function thumbnail(number, name) {
    want([number], true);
    const image = make("img", { alt: name, title: name, draggable: false });
    image.dataset.number = number;
    const url = pictures.get(`s${number}`)?.url;
    if (url) image.src = url;
    return image;
  }

  // ---- keys ---------------------------------------------------------------------------------------------------------
  const keys = { s: skip, r: () => act("unsure"), u: undo, z: zoom, arrowleft: move, arrowright: move, arrowup: move,
    arrowdown: move };

  function pressed(event) {
    if (event.target === nameField) return event.stopPropagation(); // else the notebook takes Enter away
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const digit = /^Digit([1-9])$/.exec(event.code)?.[1];
    let run = keys[event.key.toLowerCase()];
    if (!state?.list && /^Arrow(Up|Down)$/.test(event.key)) return; // the page scrolls
    if (/^[0-3]$/.test(event.key)) run = () => act("grade", Number(event.key));
    else if (event.shiftKey && digit && digit <= boxes.length) run = () => ask(digit - 1);
    else if (event.key === "Enter" && event.target === root && state?.list) {
      run = () => { if (open().length) actOnRest("grade"); };
    } else if (event.key === "Enter" && event.target === root) {
      run = () => { if (proposedGrade() !== null) act("grade", proposedGrade()); };
    }
    if (!run) return;
    event.preventDefault();
    event.stopPropagation();
    if (state && !event.repeat) run(event); // a key held down is one act
  }

  function received(content, buffers) {
    if (content.kind === "state") showState(content);
    else if (content.kind === "picture") receivePicture(content, buffers);
    else if (content.kind === "lesson") showLesson(content);
    else if (content.kind === "no news") newsAsked = false;
    else if (content.kind === "back") {
      newsAsked = false;
      goOn();
    }
    else if (content.kind === "lost") [pending?.slow, pending?.lost].forEach(clearTimeout);
    else if (content.kind === "error") {
      if (content.serial === "news") newsAsked = false;
      if (pending?.serial === content.serial) settle();
      showStatus(`Not saved: ${content.line}`, "lt-error");
    }
  }

  root.addEventListener("keydown", pressed);
  root.addEventListener("click", (event) => {
    // after a click by mouse the keys work; a button reached by Tab keeps its focus
    const elsewhere = nameForm.contains(event.target) || event.target === person;
    if (event.detail && !elsewhere) root.focus({ preventScroll: true });
  });
  // What was learnt is asked for while somebody looks, and again only when the last question has its answer.
  let newsAsked = false;
  const asking = setInterval(() => {
    if (newsAsked || !state?.teaches || !state.annotator || document.hidden) return;
    newsAsked = true;
    model.send({ kind: "news", serial: "news", known: learnt.known() });
  }, NEWS);

  function showLesson(lesson) {
    newsAsked = false;
    root.classList.toggle("lt-making", lesson.state === "finishing");
    learnt.show(lesson);
  }

  model.on("msg:custom", received);
  model.send({ kind: "hello", name: remembered() });
  return () => {
    clearInterval(asking);
    model.off("msg:custom", received);
    settle();
    pictures.forEach(({ url }) => url && URL.revokeObjectURL(url));
  };
}

// ---- what was learnt so far ---------------------------------------------------------------------------------------

function signed(number) { return `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(3)}`; }

// A line of the quality by number of grades: what was learnt, and the encoder dotted.
function sparkline(history) {
  const [width, height, edge] = [240, 54, 4];
  const values = history.flatMap(({ encoder, learnt }) => [encoder, learnt]).filter((value) => value !== null);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (i) => edge + (i * (width - 2 * edge)) / Math.max(1, history.length - 1);
  const y = (value) => height - edge - ((value - low) * (height - 2 * edge)) / Math.max(1e-9, high - low);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", history.map(({ grades, learnt }) => `${grades} grades: ${learnt.toFixed(2)}`).join(", "));
  for (const name of ["encoder", "learnt"]) {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("class", `lt-line-${name}`);
    line.setAttribute("points", history.map((row, i) => `${x(i)},${y(row[name])}`).join(" "));
    svg.append(line);
  }
  return svg;
}

function lessonPanel(rubric, { picture, finish }) {
  const body = make("div");
  const sure = make("span", { className: "lt-sure", hidden: true });
  const end = make("button", { className: "lt-end", type: "button", textContent: "Finish the round" });
  const yes = make("button", { className: "lt-end", type: "button", textContent: "Yes, finish it" });
  const no = make("button", { className: "lt-end", type: "button", textContent: "No, go on" });
  const element = make("aside", { className: "lt-learnt", hidden: true, ariaLabel: "What it has learnt so far" },
    make("h3", { textContent: "What it has learnt so far" }), body, make("div", { className: "lt-ending" }, end, sure));
  let last = null;
  let question = "";

  function ask(open) {
    sure.hidden = !open;
    end.hidden = open;
    if (open) yes.focus();
  }
  sure.append(make("span"), yes, no);
  end.addEventListener("click", () => { sure.firstChild.textContent = question; ask(true); });
  no.addEventListener("click", () => ask(false));
  yes.addEventListener("click", () => { ask(false); finish(); });

  function results(name, rows, before) {
    const known = new Set(before.map(({ number }) => number));
    return make("div", { className: "lt-row" }, make("b", { textContent: name }), ...rows.map((row) =>
      make("figure", { className: known.has(row.number) ? "" : "lt-new" }, picture(row.number, row.name),
        make("figcaption", { textContent: row.p === null ? "" : percent(row.p) }))));
  }

  function show(lesson) {
    last = lesson;
    element.hidden = false;
    const { quality: q } = lesson;
    const parts = [make("p", { className: `lt-news lt-news-${lesson.state}`, textContent: lesson.line })];
    if (lesson.state === "waiting" || lesson.state === "learnt" || lesson.state === "failed") {
      const bar = make("progress", { max: lesson.every, value: lesson.every - lesson.missing });
      bar.setAttribute("aria-label", "grades to the next lesson");
      parts.push(bar);
    }
    parts.push(make("p", { className: "lt-use" }, make("b", { textContent: `Search now uses ${lesson.uses}. ` }),
      lesson.then));
    if (q.length) {
      parts.push(make("table", {}, make("thead", {}, make("tr", {}, ...["", "encoder", "learnt", "gain"].map((text) =>
        make("th", { textContent: text })))), make("tbody", {}, ...q.map((row) => make("tr", {},
        make("td", { textContent: row.measure, title: row.about }),
        ...[row.encoder, row.learnt].map((value) => make("td", { textContent: value.toFixed(3) })),
        make("td", {}, signed(row.gain), make("small", { textContent: row.low === null ? "no interval yet" :
          `[${signed(row.low)}, ${signed(row.high)}]` })))))));
    }
    if (lesson.history.length > 1) parts.push(sparkline(lesson.history));
    parts.push(...lesson.sentences.map((text) => make("p", { textContent: text })));
    if (lesson.before.length) {
      parts.push(make("p", { className: "lt-of", textContent: "Results for the picture on the left, with their chance " +
        `of grade 3 (${rubric.grades[3]}):` }), results("before", lesson.before, lesson.before));
      if (lesson.now.length) parts.push(results("now", lesson.now, lesson.before));
    }
    body.replaceChildren(...parts);
    question = lesson.question;
    end.disabled = !lesson.can_finish;
    element.dataset.state = lesson.state;
    element.dataset.learnt = lesson.learnt_from ?? "";
  }

  return {
    element,
    show,
    known: () => last?.version ?? null,
    clear: () => { last = null; },
    arrived: (number) => {
      element.querySelectorAll(`img[data-number="${number}"]`).forEach((image) => {
        if (!image.src) image.replaceWith(picture(number, image.title));
      });
    },
  };
}

export { duration, make, remember, remembered }; // for the page of comparisons
export default { render };
