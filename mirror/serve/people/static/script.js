// Search as you type, copy buttons and ages. Every page works without this script.
"use strict";

document.documentElement.classList.add("has-script");

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

// --- search ---

function hit(one, root) {
  const item = element("li", "hit");
  const link = element("a");
  link.href = `${root}projects/${encodeURIComponent(one.project)}/`;
  link.append(element("span", "name", one.project));
  if (one.version) link.append(" ", element("span", "version", one.version));
  item.append(link, element("span", "count", counted(one.files, "file")));
  if (one.summary) item.append(element("p", "summary", one.summary));
  return item;
}

function showHits(results, found, query, root) {
  const parts = [];
  if (found.projects.length) {
    const cut = found.total >= 10000 ? "More than " : "";
    const shown = found.total > found.projects.length ? `, the best ${found.projects.length} are shown` : "";
    parts.push(element("p", "total", `${cut}${counted(found.total, "project")}${shown}`));
    const list = element("ol", "hits");
    for (const one of found.projects) list.append(hit(one, root));
    parts.push(list);
  } else {
    parts.push(element("p", "total", `No project here matches “${query}”.`));
  }
  results.replaceChildren(...parts);
}

function searchAsTyped(input) {
  const root = input.dataset.live;
  const results = document.getElementById("results");
  const overview = document.getElementById("overview");
  let timer = 0;
  let asking = null;
  async function ask() {
    const query = input.value.trim();
    if (asking) asking.abort();
    if (overview) overview.hidden = query !== "";
    history.replaceState(null, "", query ? `${root}?q=${encodeURIComponent(query)}` : root);
    if (!query) {
      results.replaceChildren();
      return;
    }
    asking = new AbortController();
    const signal = asking.signal;
    try {
      const answer = await fetch(`${root}-/api/v1/projects?limit=20&q=${encodeURIComponent(query)}`, { signal });
      if (!answer.ok) throw new Error(answer.statusText);
      const found = await answer.json();
      if (!signal.aborted) showHits(results, found, query, root);
    } catch (error) {
      if (error.name !== "AbortError") results.replaceChildren(element("p", "total", "The search can’t be reached."));
    }
  }
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 120);
  });
}

// --- copy ---

async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = element("textarea");
  area.value = text;
  area.setAttribute("aria-hidden", "true");
  area.className = "unseen";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function offerCopy(button) {
  const label = button.firstChild;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const before = label.textContent;
    try {
      await copy(button.dataset.copy);
      label.textContent = "Copied";
    } catch {
      label.textContent = "Press Ctrl+C";
    }
    button.focus();
    setTimeout(() => (label.textContent = before), 1600);
  });
}

// --- ages ---

function showAge(time) {
  const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
  const steps = [[60, "second"], [60, "minute"], [24, "hour"], [30, "day"], [12, "month"], [Infinity, "year"]];
  let value = seconds;
  for (const [size, unit] of steps) {
    if (Math.abs(value) < size) {
      time.title = new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(-Math.round(value), unit);
      return;
    }
    value /= size;
  }
}

for (const input of document.querySelectorAll("input[data-live]")) searchAsTyped(input);
for (const button of document.querySelectorAll("button[data-copy]")) offerCopy(button);
for (const time of document.querySelectorAll("time")) showAge(time);
