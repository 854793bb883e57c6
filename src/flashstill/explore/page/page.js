// The page of flashstill explore: it asks the engine for a view, shows the drawings and tables that come back, and keeps
// the state in the address. It computes no cost. In a saved page (--save) the answers are in the page itself.
"use strict";
(() => {
const WAIT_MS = 60, NARROW = matchMedia("(max-width: 60rem)");
const $ = (id) => document.getElementById(id);
const panel = $("panel"), tabs = $("tabs"), form = $("controls"), tip = $("tip");
const saved = globalThis.savedAnswers;  // of saved.js, in a saved page alone
const token = new URLSearchParams(location.search).get("token") || "";
let asked = wanted();      // URLSearchParams of the state as the reader has it
let told = null;           // the answer about controls and views
let view = null;           // the view that is shown
let running = null, timer = 0, drawn = new Map();

// ---- the state in the address ----
function wanted() {
  const found = new URLSearchParams(saved ? location.hash.slice(1) : location.search);
  found.delete("token");
  return found;
}
function addressed(query) {
  if (saved) return `#${query}`;
  const all = new URLSearchParams(query);
  if (token) all.set("token", token);
  return `${location.pathname}?${all}`;
}

// ---- asking: the server, or what was saved ----
async function ask(path, query, signal) {
  if (saved) return path === "states" ? saved.states(query) : saved.view(query);
  const all = new URLSearchParams(query);
  all.set("token", token);
  let answer;
  try {
    answer = await fetch(`/${path}?${all}`, { signal, cache: "no-store" });
  } catch (trouble) {
    if (trouble.name === "AbortError") throw trouble;
    throw new Error("The server does not answer: start flashstill explore again, and open the address that it prints.");
  }
  const held = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(held.error || `The server answered with status ${answer.status}.`);
  return held;
}
// ---- from a state to a picture ----
function change(how, edit, isSmall) {
  running?.abort();  // an answer on its way is to the state before, which it would put back
  edit(asked);
  if (how) history[how === "push" ? "pushState" : "replaceState"](null, "", addressed(asked));
  clearTimeout(timer);
  timer = setTimeout(refresh, isSmall ? WAIT_MS : 0, isSmall);
}
async function refresh(isSmall) {  // small: a slider moved, which changes no control
  running?.abort();
  const mine = (running = new AbortController());
  const slow = setTimeout(() => { panel.classList.add("stale"); panel.setAttribute("aria-busy", "true"); say("Working…"); }, 250);
  try {
    const query = new URLSearchParams(asked);
    const known = told && query.get("view");
    const early = known && ask(`view/${known}`, query, mine.signal);
    early && early.catch(() => {});
    if (!known || !isSmall) {
      const next = await ask("states", query, mine.signal);
      if (mine.signal.aborted) return;
      told = next;
      buildTabs(); buildControls();
    }
    const answer = await (known === told.state.view ? early : ask(`view/${told.state.view}`, query, mine.signal));
    if (mine.signal.aborted) return;
    told = { ...told, state: answer.state, query: answer.query };
    asked = new URLSearchParams(told.query);
    asked.set("view", told.state.view);
    history.replaceState(null, "", addressed(asked));
    view = answer;
    $("trouble").textContent = "";
    draw();
    say(`${view.title}. ${view.lead}`);
  } catch (trouble) {
    if (mine.signal.aborted || trouble.name === "AbortError") return;
    $("trouble").textContent = trouble.message;
    say("");
    if (!told && !saved) fallback();
  } finally {
    clearTimeout(slow);
    if (running === mine) { panel.removeAttribute("aria-busy"); panel.classList.toggle("stale", $("trouble").textContent !== "" && view !== null); }
  }
}
async function fallback() {  // a mistake in a shared address: the settings as they are by default, and the sentence
  try { told = await ask("states", new URLSearchParams()); buildTabs(); buildControls(); } catch { /* the sentence says it */ }
}
function say(words) { $("status").textContent = words; }

// ---- elements ----
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
function words(value, kind = "") {  // a number of a setting in words: 0.03 s is 30 ms
  if (value === null || value === undefined || value === "") return "not set";
  const number = Number(value), unit = kind === "1" ? "" : kind;
  if (!Number.isFinite(number)) return `${value}`;
  if (unit === "usd" || unit === "$") return `$${digits(number)}`;
  if (!/^(s|J|W|B|B\/s|bytes?|bytes?\/s|flop\/s|Hz|bits?\/s)$/i.test(unit)) return `${Math.abs(number) >= 1e7 ? scaled(number) : Number.isInteger(number) ? number.toLocaleString("en") : digits(number)}${unit ? ` ${unit}` : ""}`;
  return `${scaled(number, " ")}${unit}`;
}
function digits(number) { return number.toLocaleString("en", { maximumSignificantDigits: 4 }); }
function scaled(number, gap = "") {
  const at = number ? Math.max(-4, Math.min(4, Math.floor(Math.log10(Math.abs(number)) / 3 + 1e-6))) : 0;
  return `${digits(number / 1000 ** at)}${gap}${"pnµm kMGT"[at + 4].trim()}`;
}

// ---- tabs ----
function buildTabs() {
  const current = told.state.view;
  if ([...tabs.children].map((each) => each.dataset.view).join() !== told.views.map((each) => each.name).join()) {
    tabs.replaceChildren(...told.views.map((each) => el("button", {
      type: "button", role: "tab", id: `tab-${each.name}`, "aria-controls": "panel", "data-view": each.name,
      onclick: () => show(each.name), onkeydown: tabKey,
    }, each.title)));
    tabs.hidden = told.views.length < 2;
  }
  for (const each of tabs.children) {
    const on = each.dataset.view === current;
    each.setAttribute("aria-selected", on);
    each.tabIndex = on ? 0 : -1;
  }
  panel.setAttribute("aria-labelledby", `tab-${current}`);
}
function show(name) { if (!view || name !== told.state.view) change("push", (state) => state.set("view", name)); }
function tabKey(event) {
  const all = [...tabs.children], at = all.indexOf(event.currentTarget);
  const to = { ArrowRight: (at + 1) % all.length, ArrowLeft: (at + all.length - 1) % all.length, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  all[to].focus();
  show(all[to].dataset.view);
}

// ---- settings ----
function valueOf(control) { return control.name in told.state ? told.state[control.name] : control.default; }
function buildControls() {
  const names = told.views.find((each) => each.name === told.state.view)?.controls;
  const listed = told.controls.filter((each) => !names || names.includes(each.name));
  const held = document.activeElement?.id;
  const next = listed.map((control) => {
    const shape = JSON.stringify([control, control.kind === "edits" ? valueOf(control) : 0]);
    const old = drawn.get(control.name);
    const place = old && old.shape === shape ? old : { shape, ...MAKERS[control.kind](control) };
    drawn.set(control.name, place);
    place.update(valueOf(control));
    return place.node;
  });
  if (next.length !== form.children.length || next.some((node, at) => form.children[at] !== node)) form.replaceChildren(...next);
  if (held && held !== document.activeElement?.id && form.contains($(held))) $(held).focus();
  $("settings").hidden = listed.length === 0;
}
const help = (control) => {
  const text = control.fixed ? `Not in this saved page: ${control.fixed}.` : `${control.help || ""}${control.kind === "choices" ? `, up to ${control.most}; arrow keys move in the list` : ""}`;
  return text ? [el("p", { class: "help", id: `help-${control.name}` }, text)] : [];
};
const described = (control) => (control.help || control.fixed ? `help-${control.name}` : null);
const set = (name, value, small) => change(small ? "replace" : "push", (state) => state.set(name, value ?? ""), small);
const MAKERS = {
  choice(control) {
    const id = `c-${control.name}`;
    const options = control.choices.map((each) => el("option", { value: each.value }, each.label || each.value));
    const select = el("select", { id, disabled: !!control.fixed, "aria-describedby": described(control), onchange: () => set(control.name, select.value) }, ...options);
    return {
      node: el("div", { class: "control" }, el("label", { for: id }, control.label), select, ...help(control)),
      update(value) {
        const text = value === null || value === undefined ? "" : `${value}`;
        if (![...select.options].some((each) => each.value === text)) select.append(el("option", { value: text }, text || "as it comes"));
        if (document.activeElement !== select || select.value !== text) select.value = text;
      },
    };
  },
  choices(control) {
    const chosen = () => [...node.querySelectorAll("input:checked")].map((each) => each.value);
    const held = listOf(valueOf(control));
    const more = held.filter((name) => !control.choices.some((each) => each.value === name)).map((value) => ({ value }));
    const isChosen = (each) => held.includes(each.value), all = [...control.choices, ...more];
    const boxes = [...all.filter(isChosen), ...all.filter((each) => !isChosen(each))].map((each, number) => el("label", {}, el("input", {
      type: "checkbox", value: each.value, id: `c-${control.name}-${number}`, disabled: !!control.fixed, onchange: () => set(control.name, chosen().join(",")),
    }), each.label || each.value));
    const node = el("fieldset", { class: "control", "aria-describedby": described(control) }, el("legend", {}, control.label, " ", el("span", { class: "value" })), el("div", { class: "several" }, ...boxes), ...help(control));
    const inputs = [...node.querySelectorAll("input")];
    const stop = (one) => inputs.forEach((each) => { each.tabIndex = each === one ? 0 : -1; });  // Tab stops once at the list
    node.addEventListener("focusin", (event) => inputs.includes(event.target) && stop(event.target));
    node.addEventListener("keydown", (event) => {
      const on = inputs.filter((each) => !each.disabled), at = on.indexOf(document.activeElement);
      if (!/^(Arrow(Up|Down)|Home|End)$/.test(event.key)) return;
      event.preventDefault();
      ({ ArrowDown: on[at + 1], ArrowUp: on[at - 1], Home: on[0], End: on.at(-1) })[event.key]?.focus();
    });
    return { node, update(value) {
      const now = listOf(value), full = now.length >= (control.most || Infinity);
      node.querySelector(".value").textContent = `${now.length} chosen`;
      for (const box of inputs) {
        box.checked = now.includes(box.value);
        box.disabled = !!control.fixed || (!box.checked && full);
      }
      if (!inputs.some((each) => each.tabIndex === 0 && !each.disabled)) stop(inputs.find((each) => !each.disabled));
    } };
  },
  number(control) {
    const id = `c-${control.name}`, stops = control.stops?.length ? control.stops : [control.low, control.high];
    const inWords = el("span", { class: "value" });
    const range = el("input", {
      type: "range", id, min: 0, max: stops.length - 1, step: 1, disabled: !!control.fixed, "aria-describedby": described(control),
      oninput: () => { const value = stops[range.value]; show(value); set(control.name, value, true); },
    });
    const exact = el("input", { type: "text", id: `${id}-exact`, inputmode: "decimal", disabled: !!control.fixed, hidden: !!saved, "aria-label": `${control.label}${control.unit ? `, ${control.unit}` : ""}, exactly`, onchange: () => set(control.name, exact.value.trim()) });
    const bound = control.optional && !control.fixed ? el("input", { type: "checkbox", id: `${id}-set`, "aria-label": `Set: ${control.label}`, onchange: () => set(control.name, bound.checked ? stops[range.value] : "") }) : null;
    const show = (value) => {
      const text = words(value, control.unit);
      inWords.textContent = text;
      range.setAttribute("aria-valuetext", text);
      if (document.activeElement !== exact) exact.value = value ?? "";
    };
    const name = el("label", { for: id }, inWords, control.label);
    return {
      node: el("div", { class: "control" }, name, el("div", { class: "slide" }, range, el("span", {}, exact)), ...(bound ? [el("label", { class: "help" }, bound, " set it")] : []), ...help(control)),
      update(value) {
        const unset = value === null || value === undefined;
        if (bound) { bound.checked = !unset; range.disabled = unset; }
        if (!unset && document.activeElement !== range) range.value = nearest(stops, Number(value));
        show(unset ? null : value);
      },
    };
  },
  edits(control) {
    const rows = listOf(valueOf(control)), write = (next, small) => change(small ? "replace" : "push", (state) => { state.delete("set"); next.forEach((each) => state.append("set", each)); }, small);
    const parts = rows.map((text, number) => {
      const at = text.lastIndexOf("="), fact = text.slice(0, at), amount = text.slice(at + 1), id = `c-edit-${number}`;
      const choice = control.choices.find((each) => each.value === fact) || {}, now = choice.now;
      const put = (value, small) => write(rows.map((each, place) => (place === number ? `${fact}=${value}` : each)), small);
      const exact = el("input", { type: "text", id, inputmode: "decimal", value: amount, "aria-label": `${fact}, new amount`, onchange: () => put(exact.value.trim()) });
      const ratio = now ? Number(amount) / now : 1, inWords = el("span", { class: "value" }, now ? `${words(amount, choice.unit)} (${digits(ratio)} x)` : words(amount, choice.unit));
      const slider = now ? el("input", { type: "range", id: `${id}-slide`, min: -12, max: 12, step: 1, value: Math.round(4 * Math.log2(ratio)), "aria-label": `${fact}, times today's`, "aria-valuetext": inWords.textContent,
        onchange: () => put(Number((now * 2 ** (slider.value / 4)).toPrecision(4))) }) : "";
      return el("div", { class: "edit" }, el("div", { class: "row" }, el("span", {}, choice.label || fact), el("button", { type: "button", id: `${id}-off`, "aria-label": `Take back the edit of ${fact}`, onclick: () => write(rows.filter((_, place) => place !== number)) }, "Undo")), inWords, el("div", { class: "slide" }, el("span", {}, slider), exact));
    });
    const add = el("input", { type: "text", id: "c-edit-add", list: "facts", disabled: !!control.fixed || rows.length >= (control.most || Infinity), placeholder: "type a number's name", onchange: () => {
      const found = control.choices.find((each) => each.value === add.value.trim());
      if (found) write([...rows.filter((each) => !each.startsWith(`${found.value}=`)), `${found.value}=${found.now ?? 1}`]);
      else if (add.value.includes("=")) write([...rows, add.value.trim()]);
    } });
    const facts = el("datalist", { id: "facts" }, ...control.choices.map((each) => el("option", { value: each.value }, each.now === undefined ? "" : words(each.now, each.unit))));
    return { node: el("div", { class: "control" }, el("label", { for: "c-edit-add" }, control.label), add, facts, ...parts, ...help(control)), update() {} };
  },
};
function listOf(value) { return Array.isArray(value) ? value : value ? `${value}`.split(",") : []; }
function nearest(stops, value) {
  const gap = (stop) => (stop > 0 && value > 0 ? Math.abs(Math.log(stop / value)) : Math.abs(stop - value));
  return stops.reduce((best, stop, at) => (gap(stop) < gap(stops[best]) ? at : best), 0);
}

// ---- a view ----
function draw() {
  document.title = `${view.title} - flashstill explore`;
  const opens = new Set([...panel.querySelectorAll("details[open]")].map((each) => each.dataset.key)), isOpen = (key) => opens.has(key);
  const charts = view.charts.map((chart) => {
    const picture = drawing(chart), only = view.charts.length === 1;
    return el("section", { class: `card${only || !picture || picture.firstChild.classList.contains("wide") ? " wide" : ""}`, "aria-label": chart.title }, el("h3", {}, chart.title), ...(picture ? [picture] : []),
      ...(!chart.table.columns.length ? [] : [picture ? fold(`t-${chart.name}`, isOpen(`t-${chart.name}`), "The numbers", () => tableOf(chart.table)) : tableOf(chart.table, chart.title)]),
      el("div", { class: "tools" },
        ...(chart.table.columns.length ? [el("button", { type: "button", "aria-label": `CSV of ${chart.title}`, onclick: () => save(csv(chart.table), "text/csv", `${view.name}-${chart.name}.csv`) }, "CSV")] : []),
        ...(picture ? [el("button", { type: "button", "aria-label": `PNG of ${chart.title}`, onclick: () => png(picture.querySelector("svg"), chart).catch((trouble) => ($("trouble").textContent = trouble.message)) }, "PNG")] : [])));
  });
  const command = view.command ? [el("section", { class: "card", "aria-label": "Command line" }, el("h3", {}, "The same on the command line"), el("pre", { tabindex: 0 }, el("code", { id: "command" }, view.command)), el("div", { class: "tools" }, el("button", { type: "button", id: "copy", onclick: copy }, "Copy the command")))] : [];
  const sources = view.sources?.length ? [el("div", { class: "card" }, fold("sources", isOpen("sources"), `Sources: ${view.sources.length} fact row${view.sources.length === 1 ? "" : "s"}`, () => sourcesOf(view.sources)))] : [];
  const notes = view.notes?.length ? [el("div", { class: "card" }, el("h3", {}, "What this rests on"), el("ul", {}, ...view.notes.map((note) => el("li", {}, note))))] : [];
  const isInside = panel.contains(document.activeElement) && document.activeElement !== panel;
  panel.replaceChildren(el("h2", {}, view.title), el("p", { class: "lead" }, view.lead), el("div", { class: "charts" }, ...charts), el("div", { class: "foot" }, ...notes, ...command, ...sources));
  tip.hidden = true;
  if (isInside) panel.focus();
  performance.mark("drawn");
}
function fold(key, open, title, make) {  // its content is made when it is opened
  const fill = () => { if (details.open && details.children.length < 2) details.append(make()); };
  const details = el("details", { "data-key": key, open, ontoggle: fill }, el("summary", {}, title));
  fill();
  return details;
}
function boxed(label, table) { return el("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": label }, table); }
function tableOf(table, title) {
  const isWord = table.columns.map((_, at) => table.rows.some((row) => typeof row[at] === "string"));
  const kind = (at, text) => (isWord[at] ? `word${text.length > 40 ? " long" : ""}` : null);
  const texts = table.texts || table.rows.map((row) => row.map((cell) => `${cell ?? ""}`));
  return boxed(table.caption, el("table", {}, el("caption", { class: table.caption === title ? "heard" : null }, el("span", {}, table.caption)),
    el("thead", {}, el("tr", {}, ...table.columns.map((name, at) => el("th", { scope: "col", class: isWord[at] ? "word" : null }, name)))),
    el("tbody", {}, ...texts.map((row) => el("tr", {}, ...row.map((text, at) => (at === 0 && isWord[0] ? el("th", { scope: "row", class: kind(at, text) }, text) : el("td", { class: kind(at, text) }, text))))))));
}
function sourcesOf(rows) {
  const span = (each) => (each.low === null || each.high === null || each.low === each.high ? "" : `${words(each.low)} to ${words(each.high)}`);
  return tableOf({ caption: "Fact rows that these numbers rest on", columns: ["fact", "value", "range", "unit", "kind", "source"],
    rows: rows.map((each) => [each.fact, each.value, span(each), each.unit, each.kind, each.source]),
    texts: rows.map((each) => [each.fact, words(each.value), span(each), each.unit, each.kind, each.source]) });
}
function drawing(chart) {  // the engine's SVG, as elements; nothing in it may run or load
  if (!chart.svg) return null;
  const svg = new DOMParser().parseFromString(chart.svg, "text/html").querySelector("svg");
  if (!svg) return null;
  svg.querySelectorAll("script, foreignObject, style, image, use, a, animate, set").forEach((each) => each.remove());
  for (const each of [svg, ...svg.querySelectorAll("*")]) for (const name of each.getAttributeNames()) if (/^on|href|^style$|^src/i.test(name)) each.removeAttribute(name);
  svg.setAttribute("role", "img");
  if (!svg.getAttribute("aria-label")) svg.setAttribute("aria-label", chart.title);
  for (const title of [...svg.querySelectorAll("title")]) if (title.parentNode !== svg) { title.parentNode.dataset.value = title.textContent; title.remove(); }
  const marks = [...svg.querySelectorAll("[data-value]")];
  const place = el("div", { class: "plot", tabindex: 0, role: "group", "aria-label": chart.title }, svg);
  if (!marks.length) return place;
  let at = -1;
  const point = (mark, x, y) => {
    marks.forEach((each) => each.classList.toggle("here", each === mark));
    tip.hidden = !mark;
    if (!mark) return;
    const box = mark.getBoundingClientRect();
    tip.textContent = mark.dataset.value;
    const left = (x ?? box.left + box.width / 2) + 12, top = (y ?? box.top) - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(4, Math.min(left, innerWidth - tip.offsetWidth - 8)) + scrollX}px`;
    tip.style.top = `${Math.max(4, top) + scrollY}px`;
  };
  place.setAttribute("aria-label", `${chart.title}: ${marks.length} values, one after another with the arrow keys`);
  place.addEventListener("pointermove", (event) => point(event.target.closest("[data-value]"), event.clientX, event.clientY));
  place.addEventListener("pointerleave", () => point(null));
  place.addEventListener("blur", () => { at = -1; point(null); });
  place.addEventListener("keydown", (event) => {
    const last = marks.length - 1;
    const to = { ArrowRight: Math.min(at + 1, last), ArrowDown: Math.min(at + 1, last), ArrowLeft: Math.max(at - 1, 0), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last, Escape: -1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    at = to;
    point(marks[at] || null);
    say(at < 0 ? "" : marks[at].dataset.value);
  });
  return place;
}

// ---- taking it along ----
function csv(table) {
  const cell = (value) => {
    const text = value === null ? "" : typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : `${value}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [table.columns, ...table.rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}
function save(content, type, name) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
const KEPT = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "opacity", "color", "font-size", "font-family", "font-weight", "text-anchor", "visibility", "paint-order"];
async function png(svg, chart) {
  const copied = svg.cloneNode(true), from = [svg, ...svg.querySelectorAll("*")], to = [copied, ...copied.querySelectorAll("*")];
  from.forEach((each, at) => { const style = getComputedStyle(each); for (const name of KEPT) to[at].setAttribute(name, style.getPropertyValue(name)); });
  const { width, height } = svg.viewBox.baseVal, head = 30, page = getComputedStyle(document.body), scale = Math.max(2, 1200 / width);
  const back = getComputedStyle(svg.closest(".card")).backgroundColor;
  Object.entries({ y: head, width, height }).forEach(([name, value]) => copied.setAttribute(name, value));
  const outer = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  outer.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  for (const [name, value] of [["width", width * scale], ["height", (height + head) * scale], ["viewBox", `0 0 ${width} ${height + head}`]]) outer.setAttribute(name, value);
  const part = (tag, attributes, text) => { const made = document.createElementNS(outer.namespaceURI, tag); Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value)); if (text) made.textContent = text; return made; };
  outer.append(part("rect", { width: "100%", height: "100%", fill: back }), part("text", { x: 8, y: 20, fill: page.color, "font-size": Math.min(14, (width - 16) / (0.62 * chart.title.length)), "font-weight": 600, "font-family": page.fontFamily }, chart.title), copied);
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(outer))}`;
  await picture.decode();
  const canvas = el("canvas", { width: Math.round(width * scale), height: Math.round((height + head) * scale) });
  canvas.getContext("2d").drawImage(picture, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  save(blob, "image/png", `${view.name}-${chart.name}.png`);
}
async function copy() {
  try {
    await navigator.clipboard.writeText(view.command);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("command"));
    $("copy").textContent = "Selected: now copy it";
  }
  say($("copy").textContent);
  setTimeout(() => { if ($("copy")) $("copy").textContent = "Copy the command"; }, 2500);
}

// ---- light or dark, and the beginning ----
const THEMES = ["system", "light", "dark"];
function themed(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
  $("theme").hidden = false;
}
let theme = "system";
try { theme = THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "system"; } catch { /* no storage here */ }
themed(theme);
$("theme").addEventListener("click", () => {
  themed((theme = THEMES[(THEMES.indexOf(theme) + 1) % 3]));
  try { localStorage.setItem("theme", theme); } catch { /* no storage here */ }
});
const wide = () => { $("settings").open = !NARROW.matches; };
NARROW.addEventListener("change", wide);
wide();
form.addEventListener("submit", (event) => event.preventDefault());
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); panel.focus(); });
const moved = () => { if (`${wanted()}` !== `${asked}`) { asked = wanted(); refresh(false); } };
addEventListener("popstate", moved);
addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
if (saved) addEventListener("hashchange", moved);
refresh(false);
})();
