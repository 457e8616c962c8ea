// What the labelling widget shows. Python (tagger.py) decides which pair comes next and knows what is on disk. This
// module shows the state that Python sends, sends acts to Python, and shows the next pair only when Python answers that
// the act is in the journal. What people are asked comes from the study's rubric, and is put in as text, never as HTML.

const KEPT_PICTURES = 40;
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
  const pictures = new Map(); // number -> {url, image, shape, error}, oldest first
  let state = null;
  let answers = rubric.questions.map(() => "-");
  let pending = null; // the act that is not on disk yet
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
  const figures = ["left", "right"].map(() => {
    const figure = make("figure", { className: "lt-figure", title: "Click or press Z to enlarge" });
    figure.addEventListener("click", () => zoom());
    return figure;
  });
  const stage = make("div", { className: "lt-stage" }, ...figures);
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
    button("Skip", "S", "Leave this pair out", () => act("skip")),
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
  const root = make("div", { className: "lt-root", tabIndex: 0 },
    make("header", {}, progress, status, person), make("div", { className: "lt-bar" }, bar),
    nameForm, work, make("footer", {}, tally, agreement), large);
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab leaves our keys alone
  root.setAttribute("aria-label", "Grade pairs of pictures");
  el.append(root);

  // ---- acts: sent, then waited for ------------------------------------------------------------------------------
  function post(message, notice) {
    if (pending || !state) return;
    const serial = `${view}-${++sent}`;
    pending = { serial, notice, message: { ...message, serial, lines: state.lines } }; // until the act is on disk
    pending.slow = setTimeout(() => showStatus("saving …", "lt-waiting"), 250);
    pending.lost = setTimeout(() => showStatus("The kernel does not answer: busy, or gone. All that you see counted is on " +
      "disk; if it was restarted, run the cell again and go on.", "lt-error"), 4000);
    model.send(pending.message);
  }

  // The server was away. What it did not acknowledge is sent again; it writes it if the journal does not hold it.
  function goOn() {
    for (const [number, { image, error }] of pictures) if (!image && !error) pictures.delete(number);
    const here = state?.pictures ? { place: state.place, pair: names() } : {};
    model.send({ kind: "hello", name: state?.annotator || remembered(), ...here });
    if (pending) model.send({ ...pending.message, again: true });
  }

  function names() { return state.pictures.map(({ name }) => name); }

  function settle() {
    clearTimeout(pending?.slow);
    clearTimeout(pending?.lost);
    pending = null;
  }

  function act(name, grade = null) {
    if (!state || state.place >= state.total) return;
    const seconds = shownAt ? (performance.now() - shownAt) / 1000 : 0;
    const written = answers.some((answer) => answer !== "-") ? answers.join("") : "";
    post({ kind: "act", place: state.place, pair: names(), act: name, grade, seconds, answers: written },
      name === "grade" ? `saved: ${grade}, ${rubric.grades[grade]}` : `saved: ${name}`);
  }

  function undo() { post({ kind: "undo" }, "taken back"); }

  function go(step) { if (state && !pending) model.send({ kind: "go", place: state.place + step }); }

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
    if (own) {
      showStatus(pending.notice, "lt-saved");
      root.dataset.acknowledged = sent; // how many acts of this view are on disk
      settle();
    }
    if (state && state.known_as !== next.known_as) pictures.clear(); // other pairs have these numbers now
    const moved = !state || state.place !== next.place || state.annotator !== next.annotator || own;
    state = next;
    root.classList.toggle("lt-asking", !state.annotator);
    if (!state.annotator) return askName("");
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
    want([...(state.pictures ?? []).map((picture) => picture.number), ...state.ahead]);
    if (over) {
      finished.replaceChildren(make("h3", { textContent: "That was the last pair. Thank you!" }),
        make("p", { textContent: "Every grade is on disk. U takes the last one back, ← shows the pairs again." }));
      if (large.open) large.close();
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
    figures.forEach((figure, side) => {
      const { image, error, shape, name } = shown[side];
      figure.style.setProperty("--shape", shape ?? 1);
      figure.classList.toggle("lt-broken", Boolean(error));
      if (image) image.alt = SIDES[side];
      figure.replaceChildren(error ? make("p", { textContent: `This picture cannot be shown: ${error}` }) :
        image ?? make("p", { textContent: "…" }), make("figcaption", { textContent: name }));
    });
    stage.style.setProperty("--shapes", shown.reduce((sum, { shape }) => sum + (shape ?? 1), 0));
    const ready = shown.every(({ image, error }) => image || error);
    root.dataset.ready = ready ? state.place : ""; // for who waits for the pictures of this place
    if (ready && !shownAt) shownAt = performance.now();
    if (large.open) fillLarge();
  }

  function fillLarge() {
    large.replaceChildren(...state.pictures.map(({ number }) => pictures.get(number)).filter((picture) => picture?.url)
      .map((picture, side) => make("img", { src: picture.url, alt: SIDES[side] })));
  }

  function zoom() {
    if (large.open) return large.close();
    if (!state || state.place >= state.total) return;
    fillLarge();
    large.showModal();
  }

  // ---- pictures: asked for by number, kept a while -----------------------------------------------------------------
  function want(numbers) {
    const missing = [...new Set(numbers)].filter((number) => !pictures.has(number));
    missing.forEach((number) => pictures.set(number, {}));
    if (missing.length) model.send({ kind: "want", pictures: missing });
    const needed = new Set(numbers);
    for (const [number, { url }] of pictures) {
      if (pictures.size <= KEPT_PICTURES) break;
      if (needed.has(number)) continue;
      if (url) URL.revokeObjectURL(url);
      pictures.delete(number);
    }
  }

  async function receivePicture({ number, error }, [content]) {
    if (pictures.get(number)?.url) return; // another view of this widget asked for it
    const picture = { error };
    if (!error) {
      picture.url = URL.createObjectURL(new Blob([content]));
      picture.image = make("img", { src: picture.url, alt: "", draggable: false });
      try {
        await picture.image.decode();
        const { naturalWidth, naturalHeight } = picture.image;
        picture.shape = Math.min(2.4, Math.max(0.5, naturalWidth / naturalHeight));
      } catch {
        Object.assign(picture, { image: null, error: "not a sound picture" });
      }
    }
    pictures.set(number, picture);
    if (state?.pictures?.some((shown) => shown.number === number)) showPictures();
  }

  // ---- keys ---------------------------------------------------------------------------------------------------------
  const keys = { s: () => act("skip"), r: () => act("unsure"), u: undo, z: zoom, arrowleft: () => go(-1),
    arrowright: () => go(1) };

  function pressed(event) {
    if (event.target === nameField) return event.stopPropagation(); // else the notebook takes Enter away
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const digit = /^Digit([1-9])$/.exec(event.code)?.[1];
    let run = keys[event.key.toLowerCase()];
    if (/^[0-3]$/.test(event.key)) run = () => act("grade", Number(event.key));
    else if (event.shiftKey && digit && digit <= boxes.length) run = () => ask(digit - 1);
    else if (event.key === "Enter" && event.target === root) {
      run = () => { if (proposedGrade() !== null) act("grade", proposedGrade()); };
    }
    if (!run) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat) run(); // a key held down is one act
  }

  function received(content, buffers) {
    if (content.kind === "state") showState(content);
    else if (content.kind === "picture") receivePicture(content, buffers);
    else if (content.kind === "back") goOn();
    else if (content.kind === "lost") [pending?.slow, pending?.lost].forEach(clearTimeout);
    else if (content.kind === "error") {
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
  model.on("msg:custom", received);
  model.send({ kind: "hello", name: remembered() });
  return () => {
    model.off("msg:custom", received);
    settle();
    pictures.forEach(({ url }) => url && URL.revokeObjectURL(url));
  };
}

export default { render };
