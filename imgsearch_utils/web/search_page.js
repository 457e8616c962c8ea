// The search widget's face: it sends a query, draws what Python (search_page.py) answers, and dims by the threshold.

const NAME_KEY = "imgsearch-annotator"; // the tagger's, so that one name stands for both
const PART = 1_000_000; // bytes of an upload in one message; servers refuse long ones
const MODELS = { encoder: "sees what it learnt elsewhere", head: "learnt in this run" };
const NARROW = 760; // pixels, below which one model is shown at a time

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function remembered() {
  try { return localStorage.getItem(NAME_KEY) ?? ""; } catch { return ""; }
}

function remember(name) {
  try { localStorage.setItem(NAME_KEY, name); } catch { /* a private window: asked again next time */ }
}

function percent(share) {
  return share >= 0.995 ? "> 99 %" : share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`;
}

function megabytes(bytes) { return `${Math.round(bytes / 1e6)} MB`; }

function render({ model, el }) {
  const urls = new Map(); // "row" or "row large" -> its picture's url, or "" while it is on its way
  let about = null; // what Python said of the run
  let shown = null; // the last results
  let chosen = null; // the threshold, once somebody moved it
  let own = ""; // the url of an uploaded query
  let sent = 0;
  let pending = null; // the question that is not answered yet
  let resuming = false; // after the server was away
  let voted = null; // what to say of the last vote, while its results come
  let again = null; // asks the last upload once more
  let trail = []; // what was asked, each as a function that asks it again

  // ---- the page -----------------------------------------------------------------------------------------------
  const title = make("div", { className: "sp-title" }, make("b", { textContent: "Image search" }), make("span"));
  const status = make("span", { className: "sp-status", role: "status" });
  const file = make("input", { type: "file", accept: "image/*", hidden: true, ariaLabel: "a picture" });
  const drop = make("div", { className: "sp-drop", tabIndex: 0, role: "button" });
  drop.setAttribute("aria-label", "Choose a picture");
  const caption = make("div", { className: "sp-caption" });
  const words = make("input", { type: "text", className: "sp-text", maxLength: 300, placeholder: "or describe it",
    ariaLabel: "describe what you look for" });
  const wordsForm = make("form", { className: "sp-words" }, words, make("button", { textContent: "Search" }));
  const noWords = make("p", { className: "sp-hint" });
  const slider = (label, properties) => {
    const input = make("input", { type: "range", ...properties });
    const value = make("output");
    const line = make("label", { className: "sp-slider" }, make("span", { textContent: label }), input, value);
    return { input, value, line };
  };
  const k = slider("Results", { min: 1, step: 1 });
  const least = slider("P(similar) at least", { min: 0, max: 1, step: 0.01 });
  const calibrated = make("button", { type: "button", className: "sp-link", textContent: "as calibrated" });
  least.line.append(calibrated);
  const person = make("input", { type: "text", className: "sp-person", maxLength: 60, placeholder: "visitor",
    ariaLabel: "your name, for votes" });
  const waiting = make("span");
  const chooser = (label, names) => {
    const select = make("select", {}, ...Object.entries(names).map(([value, textContent]) => make("option", { value, textContent })));
    return { select, line: make("label", {}, make("span", { textContent: label }), select) };
  };
  const crops = chooser("An uploaded picture is looked at", { 1: "as a whole", 5: "and in 4 crops", 10: "and in 9 crops" });
  const where = make("input", { type: "text", className: "sp-where", maxLength: 300, spellcheck: false });
  const whereLine = make("label", {}, make("span", { textContent: "Only pictures where" }), where);
  const more = make("details", { className: "sp-more-ways" }, make("summary", { textContent: "More ways to search" }),
    whereLine, crops.line, make("p", { className: "sp-hint", textContent:
      "Crops are off at first: what they are worth, notebook 16 measures." }));
  const back = make("button", { type: "button", className: "sp-link sp-back", textContent: "← back" });
  const samples = make("div", { className: "sp-samples" });
  const why = make("p", { className: "sp-hint" });
  const switches = make("div", { className: "sp-switches", role: "group", ariaLabel: "whose results are shown" });
  const which = make("section", { className: "sp-which", hidden: true }, switches, why);
  const marks = make("section", { className: "sp-marks", hidden: true, ariaLabel: "what moves the ranking" });
  const columns = make("div", { className: "sp-columns" });
  const legend = make("p", { className: "sp-hint sp-foot", hidden: true });
  const read = "; below the threshold a result is dimmed. The score is the model's cosine. Your votes ▲ ▼ rank the " +
    "results anew at once: by the mean of the query and what is like it, less a part of the mean of what is not; " +
    "P(similar) stays that of the query alone. Click a picture to see it beside the query. By keyboard: Tab goes from " +
    "card to card, the arrows from its picture to “More like this” and to the votes.";
  const large = make("dialog", { className: "sp-large", ariaLabel: "Query and result, large; Escape closes" });
  const votesLine = make("p", { className: "sp-hint sp-votes" }, "Votes as ", person, " · ", waiting);
  const root = make("div", { className: "sp-root" },
    make("header", {}, title, status),
    make("section", { className: "sp-query" },
      make("div", {}, drop, caption, back, file),
      make("div", { className: "sp-controls" }, wordsForm, k.line, least.line, noWords, votesLine, more)),
    samples, which, marks, columns, legend, large);
  const links = model.get("links") ?? {}; // to the pages beside this one, where it is served
  if (links.map) title.after(make("a", { href: links.map, textContent: "Map" }));
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab leaves our keys alone
  el.append(root);

  // ---- asking ---------------------------------------------------------------------------------------------------
  function say(text, kind = "") {
    status.textContent = text;
    status.className = `sp-status ${kind}`;
  }

  function settle() {
    clearTimeout(pending?.slow);
    clearTimeout(pending?.lost);
    pending = null;
  }

  function ask(message, doing = "searching …", buffers = []) {
    settle();
    pending = { serial: ++sent, kind: message.kind };
    pending.slow = setTimeout(() => say(doing, "sp-waiting"), 250);
    pending.lost = setTimeout(() => say("No answer: the kernel is busy, or gone. Reload the page.", "sp-error"), 60000);
    const name = person.value.trim() || "visitor";
    pending.message = { ...message, serial: sent, k: Number(k.input.value), name, where: where.value.trim() };
    model.send(pending.message, undefined, buffers);
  }

  function begin(asking) {
    trail.push(asking);
    asking();
  }

  // The server was away: a vote that it did not acknowledge is sent again, and what is shown is asked again.
  function goOn() {
    urls.forEach((url) => url && URL.revokeObjectURL(url));
    urls.clear();
    model.send({ kind: "hello", name: person.value.trim() || "visitor" });
    if (pending?.kind === "vote") model.send(pending.message);
    trail = trail.slice(-1);
    resuming = true;
  }

  async function upload(picture) {
    if (!picture || !about) return;
    if (picture.size > about.limit) {
      return say(`“${picture.name}”: more than ${megabytes(about.limit)}; make it smaller first`, "sp-error");
    }
    const content = await picture.arrayBuffer();
    again = () => send(picture.name, content, true);
    begin(() => send(picture.name, content));
  }

  function send(name, content, inPlace = false) {
    for (let at = 0, part = 0; part === 0 || at < content.byteLength; at += PART, part += 1) {
      ask({ kind: "upload", file: name, part, last: at + PART >= content.byteLength, again: inPlace,
        crops: Number(crops.select.value) }, "reading …",
        [content.slice(at, at + PART)]);
    }
  }

  function like(row) { begin(() => ask({ kind: "like", row })); }

  // ---- pictures: asked for by number, kept -----------------------------------------------------------------------
  function want(rows, size = false) {
    const missing = rows.filter((row) => !urls.has(size ? `${row} large` : `${row}`));
    missing.forEach((row) => urls.set(size ? `${row} large` : `${row}`, ""));
    if (missing.length) model.send({ kind: "want", rows: missing, large: size });
  }

  function frame(row, name, tag = "div") {
    const url = urls.get(`${row}`);
    const picture = make(tag, { className: "sp-picture", ...(tag === "button" ? { type: "button" } : {}) });
    Object.assign(picture.dataset, { row, name });
    if (url) picture.append(make("img", { src: url, alt: name, draggable: false }));
    return picture;
  }

  function receivePicture({ row, large: size, missing }, [content]) {
    const url = missing ? "" : URL.createObjectURL(new Blob([content]));
    urls.set(size ? `${row} large` : `${row}`, url);
    if (size) return large.open && fillLarge();
    root.querySelectorAll(`.sp-picture[data-row="${row}"]`).forEach((picture) => {
      picture.querySelector("img, span")?.remove();
      picture.prepend(url ? make("img", { src: url, alt: picture.dataset.name, draggable: false }) :
        make("span", { textContent: `${picture.dataset.name}: no picture` }));
    });
  }

  function zoom(rows) {
    large.rows = rows;
    want(rows.filter((row) => row !== null), true);
    fillLarge();
    large.showModal();
  }

  function fillLarge() {
    const sources = large.rows.map((row) => (row === null ? own : urls.get(`${row} large`) || urls.get(`${row}`)));
    const alts = large.rows.length > 1 ? ["the query", "the result"] : ["the picture"];
    large.replaceChildren(...sources.map((src, i) => src && make("img", { src, alt: alts[i] })).filter(Boolean));
  }

  // ---- showing ----------------------------------------------------------------------------------------------------
  function showRun(said) {
    const before = about;
    about = said;
    title.lastChild.replaceWith(make("span", { textContent:
      `${said.images.toLocaleString("en")} images · run ${said.run} · ${said.encoder}` +
      ("head" in said.thresholds ? " and its head" : ", no head yet") }));
    Object.assign(k.input, { max: said.most, value: Math.min(before ? Number(k.input.value) : said.k, said.most) });
    wordsForm.hidden = Boolean(said.no_words);
    noWords.textContent = said.no_words;
    noWords.hidden = !said.no_words;
    whereLine.hidden = !said.condition;
    where.placeholder = said.condition;
    legend.textContent = `P(similar) is the probability that ${said.by_classes ? "the two pictures are of one class, " +
      "calibrated on the study's classes" : "people would give the pair grade 3, calibrated on the study's own grades"}` + read;
    showWaiting(said.waiting);
    showSwitches();
    showControls();
    showDrop();
    samples.replaceChildren(make("p", { textContent: "Or begin with one of the study's own pictures:" }),
      make("div", {}, ...said.samples.map(({ row, name }) => {
        const sample = make("button", { type: "button", title: name }, frame(row, name));
        sample.addEventListener("click", () => like(row));
        return sample;
      })));
    want(said.samples.map(({ row }) => row));
    root.dataset.open = said.run;
    root.classList.remove("sp-closed");
    if (pending?.kind !== "vote") say("");
    if (resuming) trail.at(-1)?.();
    else if (links.map && /^#like=\d+$/.test(location.hash)) like(Number(location.hash.slice(6))); // from the map
    resuming = false;
  }

  function showWaiting(count) {
    const use = !about.kept ? "they rank anew, and are forgotten: this run is published" : about.teaches ?
      "they rank anew, and teach the next round a little" : "they rank anew; this run has no round left to learn them";
    waiting.textContent = use + (count && about.kept ? `. ${count} voted ${count === 1 ? "pair waits" : "pairs wait"} ` +
      `to be graded, which teaches more: make tag STUDY=${about.study} QUEUE=votes` : "");
  }

  // Which model's results are shown; on a narrow page one at a time.
  function showSwitches() {
    const names = Object.keys(about.thresholds);
    why.textContent = about.why;
    which.hidden = samples.hidden === false;
    if (!names.includes(root.dataset.shows)) {
      root.dataset.shows = names.length === 1 || el.clientWidth < NARROW ? about.used : "both";
    }
    const choices = names.length === 1 ? [] : [about.used, names.find((name) => name !== about.used), "both"];
    switches.replaceChildren(...choices.map((name) => {
      const said = { encoder: "Encoder", head: "Head", both: "Both" }[name];
      const button = make("button", { type: "button", textContent: said, className: `sp-${name}` });
      button.setAttribute("aria-pressed", root.dataset.shows === name);
      button.addEventListener("click", () => { root.dataset.shows = name; showSwitches(); switches
        .querySelector(`.sp-${name}`).focus(); });
      return button;
    }));
  }

  // What the ranking was moved by; a click takes a vote back.
  function showMarks({ up, down }) {
    marks.hidden = !up.length && !down.length;
    const thumbs = (images, said, sign) => (images.length === 0 ? [] : [make("span", { textContent: `${sign} ${said}` }),
      ...images.map(({ row, name }) => {
        const thumb = make("button", { type: "button", title: `${name}: take this vote back`,
          ariaLabel: `${said} ${name}: take this vote back` }, frame(row, name), make("i", { textContent: "×" }));
        thumb.addEventListener("click", () => vote(row, name, ""));
        return thumb;
      })]);
    marks.replaceChildren(make("b", { textContent: "Ranked anew by your votes" }),
      ...thumbs(up, "like", "▲"), ...thumbs(down, "not like", "▼"));
    want([...up, ...down].map(({ row }) => row));
  }

  function vote(row, name, way) {
    ask({ kind: "vote", query: shown.image?.row ?? null, row, names: [shown.image?.name ?? null, name], vote: way },
      "saving …");
  }

  function showControls() {
    k.value.textContent = k.input.value;
    const limits = Object.entries(about.thresholds).filter(([, threshold]) => threshold !== null);
    least.line.hidden = !limits.length;
    calibrated.hidden = chosen === null;
    if (chosen === null && limits.length) least.input.value = about.thresholds[about.used];
    least.value.textContent = chosen !== null ? percent(chosen) :
      limits.map(([name, threshold]) => `${name} ${percent(threshold)}`).join(", ");
  }

  function showDrop() {
    const image = shown?.image;
    const picture = shown?.uploaded ? make("img", { src: own, alt: `the query, ${shown.text}` }) : image ? frame(image.row, image.name) : null;
    drop.classList.toggle("sp-full", Boolean(picture));
    drop.replaceChildren(picture ?? make("div", { className: "sp-invite" }, make("i", { textContent: "⬆" }),
      make("b", { textContent: "Drop a picture here" }), make("span", { textContent: "or click to choose one" })));
    const found = !shown?.uploaded || !image ? "" :
      image.name === shown.text ? " of the study" : ` is ${image.name} of the study`;
    const hint = !about ? "opening the run …" : !shown ? `JPEG, PNG, WebP, GIF, TIFF; at most ` +
      `${megabytes(about.limit)}; it stays on this machine and is not kept.` : !image ?
      "No picture of the study: votes on its results rank anew, and are forgotten with it." : "";
    const name = shown?.words ? `“${shown.text}”` : shown?.text ?? "";
    caption.replaceChildren(make("b", { textContent: name }), found, make("span", { textContent: hint }));
  }

  function showResults(said, [picture]) {
    if (pending && said.serial !== pending.serial) return; // a later question is on its way
    settle();
    say(...(voted ?? [""]));
    voted = null;
    shown = said;
    if (own) URL.revokeObjectURL(own);
    own = said.uploaded ? URL.createObjectURL(new Blob([picture])) : "";
    back.hidden = !said.back;
    samples.hidden = true;
    legend.hidden = which.hidden = false;
    showDrop();
    showMarks(said.marked);
    const held = columns.contains(document.activeElement) && document.activeElement;
    const place = held && [held.closest(".sp-column").className, held.closest(".sp-card").dataset.row, held.className];
    columns.replaceChildren(...Object.entries(said.results).map(([name, results]) => column(name, results)));
    dim();
    if (place) columns.querySelector(`[class="${place[0]}"] .sp-card[data-row="${place[1]}"] [class="${place[2]}"]`)?.focus();
    const images = [...(said.image ? [said.image] : []), ...Object.values(said.results).flat()];
    want([...new Set(images.map(({ row }) => row))]);
    root.dataset.answered = said.serial ?? 0;
  }

  function column(name, results) {
    const used = about.used === name && Object.keys(about.thresholds).length > 1;
    return make("section", { className: `sp-column sp-${name}` },
      make("h3", {}, make("i"), make("b", { textContent: name === "head" ? "Head" : "Encoder" }),
        make("span", { textContent: MODELS[name] }), used ? make("u", { textContent: "search uses it" }) : null),
      make("p", { className: "sp-none" }),
      make("div", { className: "sp-grid" }, ...results.map((result, place) => card(name, result, place))));
  }

  function card(name, { row, name: image, classes, score, p }, place) {
    const self = shown.image?.row === row;
    const picture = frame(row, image, "button");
    picture.title = "Enlarge, beside the query";
    picture.append(make("em", { textContent: self ? "the query" : place + 1 }));
    picture.addEventListener("click", () => zoom([...(shown.words || self ? [] : [shown.image?.row ?? null]), row]));
    const more = make("button", { type: "button", className: "sp-more", textContent: "More like this" });
    more.addEventListener("click", () => like(row));
    const votes = [["up", "▲", "similar"], ["down", "▼", "not similar"]].map(([way, sign, said]) => {
      const button = make("button", { type: "button", className: `sp-vote sp-${way}`, textContent: sign,
        ariaLabel: `vote: ${said}`, title: `Vote: ${said} to what you look for; the results are ranked anew` });
      button.addEventListener("click", () => vote(row, image, shown.votes[row] === way ? "" : way));
      button.setAttribute("aria-pressed", shown.votes[row] === way);
      return button;
    });
    const meter = make("div", { className: "sp-meter", title: `P(similar) ${p?.toFixed(3)}` }, make("i"));
    if (p !== null) meter.firstChild.style.width = `${100 * p}%`;
    const element = make("div", { className: "sp-card" }, picture, p === null ? null : meter,
      p === null ? null : make("div", { className: "sp-p", title: "P(similar), calibrated on the grades" },
        make("b", { textContent: percent(p) }), make("span", { textContent: " P(similar)" })),
      make("div", { className: "sp-line" },
        make("span", { className: "sp-class", textContent: classes.join(" · "), title: classes.join(" · ") }),
        make("span", { className: "sp-score", title: `the ${name}'s cosine`, textContent: score.toFixed(3) })),
      make("div", { className: "sp-name", textContent: image, title: image }),
      self ? null : make("div", { className: "sp-acts" }, more, ...votes));
    element.setAttribute("aria-label", `${self ? "the query" : `result ${place + 1}`}: ${image}` +
      (p === null ? "" : `, P(similar) ${percent(p)}`));
    element.setAttribute("role", "group");
    oneStop(element);
    Object.assign(element.dataset, { row, p: p ?? "", self: self ? "1" : "", vote: shown.votes[row] ?? "" });
    for (const [event, on] of [["mouseenter", true], ["mouseleave", false]]) {
      element.addEventListener(event, () => twins(row).forEach((twin) => twin.classList.toggle("sp-twin", on)));
    }
    return element;
  }

  // One stop of the Tab key for each card: in it, the arrows go from the picture to what can be done with it.
  function oneStop(element) {
    const stops = () => [...element.querySelectorAll("button:enabled")];
    stops().forEach((stop, place) => { stop.tabIndex = place ? -1 : 0; });
    element.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const [all, at] = [stops(), stops().indexOf(event.target)];
      if (!step || at < 0) return;
      event.preventDefault();
      all.forEach((stop) => { stop.tabIndex = -1; });
      const next = all[(at + step + all.length) % all.length];
      next.tabIndex = 0;
      next.focus();
    });
  }

  function twins(row) { return columns.querySelectorAll(`.sp-card[data-row="${row}"]`); }

  function dim() {
    for (const [name, calibratedAt] of Object.entries(about.thresholds)) {
      const here = columns.querySelector(`.sp-${name}`);
      if (!here) continue;
      const threshold = chosen ?? calibratedAt;
      const cards = [...here.querySelectorAll(".sp-card")];
      const far = (each) => each.dataset.p !== "" && Number(each.dataset.p) < threshold;
      cards.forEach((each) => each.classList.toggle("sp-far", far(each)));
      const others = cards.filter((each) => !each.dataset.self);
      const none = others.length > 0 && others.every(far);
      here.classList.toggle("sp-nothing", none);
      here.querySelector(".sp-none").textContent = none ? `No close match${others.length < cards.length ?
        " but the picture itself" : ""}: no result reaches P(similar) ${percent(threshold)}.` : "";
    }
  }

  function showVote({ serial, row, vote: way, waiting: count, grade, kept }) {
    if (pending?.serial === serial) settle();
    shown.votes[row] = way;
    twins(row).forEach((each) => {
      each.dataset.vote = way;
      for (const one of ["up", "down"]) each.querySelector(`.sp-${one}`)?.setAttribute("aria-pressed", one === way);
    });
    showWaiting(count);
    voted = [grade !== null ? `saved; the pair is graded ${grade} already, and the grade stands` : !way ?
      "vote taken back, and ranked anew" : kept ? "saved, and ranked anew" : "ranked anew", "sp-saved"];
    say(...voted);
    root.dataset.voted = serial;
  }

  // ---- hands ------------------------------------------------------------------------------------------------------
  drop.addEventListener("click", () => file.click());
  drop.addEventListener("keydown", (event) => { if (["Enter", " "].includes(event.key)) file.click(); });
  file.addEventListener("change", () => { upload(file.files[0]); file.value = ""; });
  root.addEventListener("dragover", (event) => { event.preventDefault(); root.classList.add("sp-over"); });
  root.addEventListener("dragleave", (event) => {
    if (!root.contains(event.relatedTarget)) root.classList.remove("sp-over");
  });
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    root.classList.remove("sp-over");
    upload(event.dataTransfer.files[0]);
  });
  root.addEventListener("paste", (event) => upload(event.clipboardData.files[0]));
  root.addEventListener("keydown", (event) => event.stopPropagation()); // the notebook has keys of its own
  wordsForm.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = words.value;
    if (text.trim()) begin(() => ask({ kind: "words", text }));
  });
  k.input.addEventListener("input", () => {
    showControls();
    clearTimeout(k.timer);
    k.timer = setTimeout(() => shown && ask({ kind: "more" }), 150);
  });
  least.input.addEventListener("input", () => { chosen = Number(least.input.value); showControls(); dim(); });
  where.addEventListener("change", () => shown && ask({ kind: "more" }));
  crops.select.addEventListener("change", () => shown?.uploaded && again?.());
  calibrated.addEventListener("click", () => { chosen = null; showControls(); dim(); });
  person.addEventListener("change", () => { remember(person.value.trim()); if (shown) ask({ kind: "more" }); });
  back.addEventListener("click", () => { trail.pop(); ask({ kind: "back" }); });
  large.addEventListener("click", () => large.close());

  function received(content, buffers) {
    if (content.kind === "open") showRun(content);
    else if (content.kind === "results") showResults(content, buffers);
    else if (content.kind === "picture") receivePicture(content, buffers);
    else if (content.kind === "voted") showVote(content);
    else if (content.kind === "back") goOn();
    else if (content.kind === "lost") [pending?.slow, pending?.lost].forEach(clearTimeout);
    else if (content.kind === "error") {
      settle();
      say(content.line, "sp-error");
      root.classList.toggle("sp-closed", content.fatal);
    }
  }

  person.value = remembered();
  back.hidden = calibrated.hidden = true;
  showDrop();
  model.on("msg:custom", received);
  say("opening the run …", "sp-waiting");
  model.send({ kind: "hello", name: remembered() || "visitor" });
  return () => {
    model.off("msg:custom", received);
    settle();
    urls.forEach((url) => url && URL.revokeObjectURL(url));
  };
}

export default { render };
