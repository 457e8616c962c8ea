// The map widget's face: plotly draws the points that Python (map_page.py) lays out; a line around some selects them.

const COLOURS = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#56b4e9", "#949494", "#7a5195",
  "#8c9a00", "#b3543a"];
const SCALE = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"]; // viridis
const OTHER = "#c3c8cf"; // of further values, and of images of which it is not known
const MODELS = { encoder: "Encoder", head: "Head" };
const SHOWN = 24; // pictures of a selection
const MANY = 20000; // points, from which on they are drawn smaller

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

// plotly, once for the document: from its address, or from its text, which `fetched` asks a notebook's kernel for.
let loading = null;
async function load(address, fetched) {
  const src = address ?? URL.createObjectURL(new Blob([await fetched()], { type: "text/javascript" }));
  await new Promise((onload, failed) => document.head.append(make("script", { src, onload,
    onerror: () => failed(new Error("plotly could not be loaded; reload the page")) })));
  return window.Plotly;
}

function floats(buffer) {
  const bytes = buffer instanceof ArrayBuffer ? buffer : buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength);
  return new Float32Array(bytes);
}

// Which points lie inside a closed line, by how often a ray from each crosses it.
function inside(path, x, y) {
  const corners = path.replace(/[MZ]/g, "").split("L").map((corner) => corner.split(",").map(Number));
  const rows = [];
  for (let row = 0; row < x.length; row += 1) {
    let within = false;
    for (let i = 0, j = corners.length - 1; i < corners.length; j = i, i += 1) {
      const [[x1, y1], [x2, y2]] = [corners[i], corners[j]];
      if ((y1 > y[row]) !== (y2 > y[row]) && x[row] < ((x2 - x1) * (y[row] - y1)) / (y2 - y1) + x1) within = !within;
    }
    if (within) rows.push(row);
  }
  return rows;
}

function render({ model, el }) {
  const pictures = new Map(); // "row" -> its picture's url, "" while it is on its way
  const abouts = new Map(); // row -> its name and what is known of it
  let about = null; // what Python said of the run
  let points = null; // {x, y} of the layout that is shown
  let colours = null; // {by, values, codes} of what they are coloured by
  let selected = []; // rows
  let hovered = null;
  let adding = false; // whether Shift is held
  let sent = 0;
  let arrived = null; // called with plotly's text, where it was asked for

  // ---- the page -----------------------------------------------------------------------------------------------
  const title = make("div", { className: "mp-title" }, make("b", { textContent: "Map" }), make("span"));
  const status = make("span", { className: "mp-status", role: "status" });
  const chooser = (label) => {
    const select = make("select");
    return { select, line: make("label", {}, make("span", { textContent: label }), select) };
  };
  const [layout, vectors, colour] = ["Layout", "Vectors of the", "Colour by"].map(chooser);
  const tools = make("div", { className: "mp-tools", role: "group", ariaLabel: "what dragging on the map does" });
  const [draw, move] = [["Select", "Draw around points to select them; with Shift, in addition"],
    ["Move", "Drag to move the map; the wheel zooms either way"]].map(([textContent, hint]) =>
    make("button", { type: "button", textContent, title: hint }));
  const whole = make("button", { type: "button", textContent: "Show all", title: "The whole map again" });
  tools.append(draw, move, whole);
  const legend = make("div", { className: "mp-legend", role: "group", ariaLabel: "colours; a click selects" });
  const plot = make("div", { className: "mp-plot" });
  const note = make("p", { className: "mp-hint" });
  const shown = make("div", { className: "mp-shown" });
  const count = make("b");
  const grade = make("button", { type: "button", className: "mp-main", textContent: "Grade pairs of these" });
  const table = make("button", { type: "button", textContent: "Download as CSV" });
  const clear = make("button", { type: "button", textContent: "Clear" });
  const next = make("p", { className: "mp-next", hidden: true });
  const strip = make("div", { className: "mp-strip" });
  const chosen = make("section", { className: "mp-chosen", ariaLabel: "the selection" }, count,
    make("div", { className: "mp-acts" }, grade, table, clear), next, strip);
  const links = model.get("links") ?? {};
  const home = links.search ? make("a", { href: links.search, textContent: "← Search" }) : null;
  const root = make("div", { className: "mp-root" }, make("header", {}, title, home, status),
    make("div", { className: "mp-controls" }, layout.line, vectors.line, colour.line, tools),
    legend, make("div", { className: "mp-main-row" }, make("div", {}, plot, note), make("aside", {}, shown, chosen)));
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab leaves our keys alone
  el.append(root);

  function say(text, kind = "") {
    status.textContent = text;
    status.className = `mp-status ${kind}`;
  }

  function ask(message, doing, buffers = []) {
    say(doing, "mp-waiting");
    model.send({ ...message, serial: ++sent }, undefined, buffers);
  }

  function choices({ select, line }, names, value) {
    select.replaceChildren(...Object.entries(names).map(([name, textContent]) => make("option", { value: name, textContent })));
    select.value = value;
    line.hidden = Object.keys(names).length < 2;
  }

  // ---- what is drawn --------------------------------------------------------------------------------------------
  function showRun(said) {
    const again = about?.known_as === said.known_as; // else rows stand for other images than before
    if (!again) forget();
    about = said;
    title.lastChild.textContent = `${said.images.toLocaleString("en")} images · run ${said.run}`;
    if (!again) {
      choices(layout, said.layouts, Object.keys(said.layouts)[0]);
      choices(vectors, Object.fromEntries(said.models.map((name) => [name, MODELS[name] ?? name])), said.used);
      choices(colour, { "": "nothing", ...Object.fromEntries(said.colours.map((name) => [name, name])) }, said.colours[0] ?? "");
    }
    root.dataset.open = said.run;
    showSelection();
    ask({ kind: "colour", by: colour.select.value }, "drawing …"); // first, so that the points are drawn once
    askLayout();
  }

  function forget() {
    pictures.forEach((url) => url && URL.revokeObjectURL(url));
    pictures.clear();
    abouts.clear();
    [selected, points, colours, hovered] = [[], null, null, null];
    shown.replaceChildren();
  }

  function askLayout() {
    ask({ kind: "layout", model: vectors.select.value, method: layout.select.value },
      layout.select.value === "umap" ? "laying the images out; the first time this takes a while …" : "drawing …");
  }

  // Numbers and a scale for plotly: of each point the place of its colour, or its number; the grey is that of all others.
  function shades() {
    if (!colours) return { codes: new Float32Array(points.x.length), scale: [[0, OTHER], [1, OTHER]], cmin: 0, cmax: 1 };
    if (colours.values) {
      const tints = [...colours.values.slice(0, COLOURS.length).map((_, place) => COLOURS[place]), OTHER];
      return { codes: colours.codes.map((code) => (code < 0 || code >= tints.length ? tints.length - 1 : code)),
        scale: tints.flatMap((tint, place) => [[place / tints.length, tint], [(place + 1) / tints.length, tint]]),
        cmin: -0.5, cmax: tints.length - 0.5 };
    }
    const known = colours.codes.filter((code) => !Number.isNaN(code));
    const [low, high] = known.reduce(([least, most], code) => [Math.min(least, code), Math.max(most, code)], [Infinity, -Infinity]);
    const step = ((high - low) || 1) / 20; // a band of grey below the lowest number, for images of which it is not known
    return { codes: colours.codes.map((code) => (Number.isNaN(code) ? low - step : code)), cmin: low - step, cmax: high,
      scale: [[0, OTHER], [1 / 21, OTHER], ...SCALE.map((tint, place) => [(1 + (20 * place) / (SCALE.length - 1)) / 21, tint])] };
  }

  function traces() {
    const { codes, scale, cmin, cmax } = shades();
    const many = about.images > MANY;
    const style = { cmin, cmax, colorscale: scale };
    const legendBar = Boolean(colours?.by) && !colours.values;
    const bar = { title: { text: colours?.by }, thickness: 12, len: 0.5, outlinewidth: 0, x: 1, xanchor: "right" };
    const of = (array) => Float32Array.from(selected, (row) => array[row]);
    const common = { type: "scattergl", mode: "markers", hoverinfo: "none" };
    return [
      { ...common, x: points.x, y: points.y, marker: { ...style, color: codes, size: many ? 3.5 : 7, showscale: legendBar,
        colorbar: bar, opacity: selected.length ? 0.25 : 0.85 } },
      { ...common, x: of(points.x), y: of(points.y), marker: { ...style, color: of(codes), size: many ? 5 : 9,
        showscale: false, line: { width: many ? 0.5 : 1.5, color: "#1d2430" } } },
    ];
  }

  async function drawMap(anew = false) {
    if (!points) return;
    loading ??= load(model.get("plotly"), () => new Promise((resolve) => {
      arrived = resolve;
      model.send({ kind: "library" });
    }));
    const Plotly = await loading;
    const axes = anew || !plot.layout ? wholeMap() : { xaxis: plot.layout.xaxis, yaxis: plot.layout.yaxis };
    await Plotly.react(plot, traces(), { ...axes, dragmode: plot.layout?.dragmode ?? "pan", hovermode: "closest",
      hoverdistance: 12, spikedistance: 0, showlegend: false, margin: { l: 4, r: 4, t: 4, b: 4, autoexpand: false },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      newshape: { line: { width: 1.5, color: "#1d2430" }, fillcolor: "rgba(33,113,181,.12)" },
    }, { scrollZoom: true, displayModeBar: false, responsive: true, doubleClick: false });
    if (!plot.dataset.listens) {
      plot.dataset.listens = "yes";
      plot.on("plotly_hover", ({ points: [point] }) =>
        show(point.curveNumber ? selected[point.pointIndex] : point.pointIndex));
      plot.on("plotly_relayout", ({ shapes }) => { if (shapes?.length) lasso(shapes.at(-1).path); });
    }
    root.dataset.points = points.of;
    root.dataset.coloured = colours?.by ?? "";
  }

  // Axes that show all points, whatever is selected.
  function wholeMap() {
    const ends = (array) => {
      const [low, high] = array.reduce(([least, most], each) => [Math.min(least, each), Math.max(most, each)], [Infinity, -Infinity]);
      const room = 0.05 * (high - low) || 1;
      return [low - room, high + room];
    };
    return { xaxis: { visible: false, range: ends(points.x) }, yaxis: { visible: false, range: ends(points.y), scaleanchor: "x" } };
  }

  function tool(name) {
    draw.setAttribute("aria-pressed", name === "drawclosedpath");
    move.setAttribute("aria-pressed", name === "pan");
    if (plot.layout) window.Plotly.relayout(plot, { dragmode: name });
  }

  function showPoints({ model: of, method, explained }, [x, y]) {
    points = { x: floats(x), y: floats(y), of: `${of} ${method}` };
    const spread = "Principal components: how far apart two points are means something";
    note.textContent = (method === "pca" ? `${spread}, and ${Math.round(100 * explained)} % of the variance is seen.` :
      "UMAP: who is near whom means something; how far groups lie from each other does not.") +
      (about.lacks ? ` ${about.lacks}` : "");
    drawMap(true).then(() => say(""), (error) => say(error.message, "mp-error"));
  }

  function showColours({ by, values }, [content]) {
    colours = { by, values, codes: floats(content) };
    const told = (values ?? []).slice(0, COLOURS.length);
    const chip = (name, place) => {
      const button = make("button", { type: "button", title: `select all of: ${name}` }, make("i"), name);
      button.firstChild.style.background = COLOURS[place];
      button.addEventListener("click", (event) => select(rowsOf((code) => code === place), event.shiftKey));
      return button;
    };
    const others = values && values.length > told.length ? make("span", {}, make("i"), `${values.length - told.length} others`) : null;
    if (others) others.firstChild.style.background = OTHER;
    legend.replaceChildren(...(by ? told.map(chip) : []), ...(others ? [others] : []));
    if (points) drawMap().then(() => say(""), (error) => say(error.message, "mp-error"));
  }

  function rowsOf(wanted) {
    const rows = [];
    colours.codes.forEach((code, row) => { if (wanted(code)) rows.push(row); });
    return rows;
  }

  // ---- selecting ------------------------------------------------------------------------------------------------
  function lasso(path) {
    window.Plotly.relayout(plot, { shapes: [] });
    select(inside(path, points.x, points.y), adding);
  }

  function select(rows, more = false) {
    selected = more ? [...new Set([...selected, ...rows])].sort((one, two) => one - two) : rows;
    next.hidden = true;
    model.send({ kind: "select", known_as: about.known_as, serial: ++sent }, undefined, [Int32Array.from(selected).buffer]);
    showSelection();
    drawMap();
  }

  function showSelection() {
    const many = selected.length;
    count.textContent = many ? `${many.toLocaleString("en")} ${many === 1 ? "image" : "images"} selected` :
      "Nothing is selected";
    grade.disabled = !about?.kept || many < 2;
    grade.title = !about?.kept ? "This run is published and never written again; begin a run of your own" : "";
    table.disabled = clear.disabled = !many;
    strip.replaceChildren(...selected.slice(0, SHOWN).map((row) => {
      const thumb = make("button", { type: "button", ariaLabel: `image ${row}` }, frame(row));
      thumb.addEventListener("click", () => show(row));
      return thumb;
    }), ...(many > SHOWN ? [make("span", { textContent: `and ${(many - SHOWN).toLocaleString("en")} more` })] : []));
    want(selected.slice(0, SHOWN));
    if (!many) strip.replaceChildren(make("p", { className: "mp-hint", textContent: "Choose Select and draw around some " +
      "points, or click a colour above. A selection goes on to the tagger, as pairs to grade, or into a file." }));
    root.dataset.selected = many;
  }

  function sendSelection(kind, doing) { ask({ kind, known_as: about.known_as }, doing, [Int32Array.from(selected).buffer]); }

  function showQueued({ train, images, command }) {
    const left = train < images ? ` (${images - train} are no train images, and are not asked)` : "";
    const teaches = about.teaches ? "" : " This run has no round left to learn from them; a longer run may import them.";
    next.replaceChildren(`Kept: pairs of ${train} images wait to be graded${left}.${teaches} Grade them by: `,
      make("code", { textContent: command }));
    next.hidden = false;
    say("kept", "mp-saved");
    root.dataset.queued = images;
  }

  function saveTable({ name }, [content]) {
    const href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
    make("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10000);
    say("downloaded", "mp-saved");
  }

  // ---- pictures ---------------------------------------------------------------------------------------------------
  function want(rows) {
    const missing = rows.filter((row) => !pictures.has(row));
    missing.forEach((row) => pictures.set(row, ""));
    if (missing.length) model.send({ kind: "want", rows: missing, large: false });
  }

  function frame(row) {
    const picture = make("span", { className: "mp-picture" });
    picture.dataset.row = row;
    const url = pictures.get(row);
    if (url) picture.append(make("img", { src: url, alt: "", draggable: false }));
    return picture;
  }

  function show(row) {
    hovered = row;
    want([row]);
    const known = abouts.get(row);
    const more = links.search ? make("a", { href: `${links.search}#like=${row}`, textContent: "More like this" }) : null;
    shown.replaceChildren(frame(row), ...(known ? [make("b", { textContent: known.name }), make("dl", {},
      ...Object.entries(known.facts).flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent:
        Number.isFinite(Number(value)) ? String(Math.round(1000 * Number(value)) / 1000) : value })])), ...(more ? [more] : [])] : []));
    root.dataset.shown = row;
  }

  function receivePicture({ row, missing }, [content]) {
    pictures.set(row, missing ? "" : URL.createObjectURL(new Blob([content])));
    root.querySelectorAll(`.mp-picture[data-row="${row}"]`).forEach((picture) => {
      picture.replaceChildren(missing ? make("em", { textContent: "no picture" }) :
        make("img", { src: pictures.get(row), alt: "", draggable: false }));
    });
  }

  function receiveAbout({ row, name, facts }) {
    abouts.set(row, { name, facts });
    root.querySelectorAll(`.mp-strip .mp-picture[data-row="${row}"]`).forEach(({ parentNode }) => {
      parentNode.title = parentNode.ariaLabel = name;
    });
    if (row === hovered) show(row);
  }

  // ---- hands ------------------------------------------------------------------------------------------------------
  layout.select.addEventListener("change", askLayout);
  vectors.select.addEventListener("change", askLayout);
  colour.select.addEventListener("change", () => ask({ kind: "colour", by: colour.select.value }, "drawing …"));
  draw.addEventListener("click", () => tool("drawclosedpath"));
  move.addEventListener("click", () => tool("pan"));
  whole.addEventListener("click", () => plot.layout && drawMap(true));
  grade.addEventListener("click", () => sendSelection("queue", "keeping …"));
  table.addEventListener("click", () => sendSelection("table", "writing …"));
  clear.addEventListener("click", () => select([]));
  plot.addEventListener("pointerup", (event) => { adding = event.shiftKey; }, true);
  plot.addEventListener("pointerdown", (event) => { adding = event.shiftKey; }, true);
  root.addEventListener("keydown", (event) => event.stopPropagation()); // the notebook has keys of its own

  function received(content, buffers) {
    if (content.kind === "open") showRun(content);
    else if (content.kind === "points") showPoints(content, buffers);
    else if (content.kind === "colours") showColours(content, buffers);
    else if (content.kind === "picture") receivePicture(content, buffers);
    else if (content.kind === "about") receiveAbout(content);
    else if (content.kind === "queued") showQueued(content);
    else if (content.kind === "table") saveTable(content, buffers);
    else if (content.kind === "library") arrived?.(buffers[0]);
    else if (content.kind === "back") model.send({ kind: "hello" });
    else if (content.kind === "error") {
      say(content.line, "mp-error");
      root.classList.toggle("mp-closed", content.fatal);
    }
  }

  draw.setAttribute("aria-pressed", false);
  move.setAttribute("aria-pressed", true);
  showSelection();
  model.on("msg:custom", received);
  say("opening the run …", "mp-waiting");
  model.send({ kind: "hello" });
  return () => {
    model.off("msg:custom", received);
    if (plot.layout) window.Plotly.purge(plot);
    forget();
  };
}

export default { render };
