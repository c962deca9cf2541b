// Keeps the page as it is now: hears of changes, fetches the page again and changes only what differs.
// What somebody uses stays as it is: where he types, what he selects, opens, listens to, how far he scrolled.
"use strict";
(() => {
  const EVERY = 10_000, PATIENCE = 8_000, AGAIN = 30_000;
  const link = document.getElementById("link"), linkText = document.getElementById("link-text");
  let source = null, timer = 0, retry = 0, isFetching = false, isOutdated = false, seenAt = new Date();

  const say = (state, text) => {
    link.dataset.state = state;
    if (linkText.textContent !== text) linkText.textContent = text;
  };
  const sayHow = () => source && source.readyState === EventSource.OPEN
    ? say("live", "Live") : say("looking", "Looks every 10 seconds");

  const isPlaying = (node) => [node, ...node.querySelectorAll("audio")]
    .some((one) => one.localName === "audio" && !one.paused && !one.ended);
  const isSelected = (node) => {
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && selection.containsNode(node, true));
  };
  // Such a node stays where it is and the others go around it: moved, it would lose focus or selection.
  const isHeld = (node) => node.nodeType === Node.ELEMENT_NODE
    && (node.contains(document.activeElement) || isSelected(node));

  function change(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue && !isSelected(old)) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.isEqualNode(fresh)) return;
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    changeChildren(old, fresh);
  }

  function changeChildren(old, fresh) {
    const named = new Map(), unnamed = [];
    for (const node of old.childNodes) node.id ? named.set(node.id, node) : unnamed.push(node);
    const take = (node) => {
      if (node.id) {
        const found = named.get(node.id);
        return found && found.nodeName === node.nodeName && named.delete(node.id) ? found : null;
      }
      const at = unnamed.findIndex((one) => one.nodeName === node.nodeName);
      return at < 0 ? null : unnamed.splice(0, at + 1)[at];
    };
    const wanted = [...fresh.childNodes].map((node) => {
      const found = take(node);
      if (!found) return document.importNode(node, true);
      change(found, node);
      return found;
    });
    const kept = new Set(wanted);
    for (const node of [...old.childNodes]) {
      if (!kept.has(node) && !(node.nodeType === Node.ELEMENT_NODE && isPlaying(node))) node.remove();
    }
    let next = null;
    for (const node of wanted.reverse()) {
      const isInPlace = node.parentNode === old && node.nextSibling === next;
      if (!isInPlace && !(node.parentNode === old && isHeld(node))) old.insertBefore(node, next);
      next = node;
    }
  }

  function show(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const page = fresh.getElementById("page");
    if (!page) throw new Error("this is not the page");
    const focused = document.activeElement, section = focused && focused.closest("section");
    if (document.title !== fresh.title) document.title = fresh.title;
    change(document.getElementById("page"), page);
    if (focused && !focused.isConnected && section && section.isConnected) {
      section.tabIndex = -1;
      section.focus({ preventScroll: true });
    }
  }

  async function renew() {
    if (isFetching) { isOutdated = true; return; }
    isFetching = true;
    isOutdated = false;
    clearTimeout(timer);
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      show(await answer.text());
      seenAt = new Date();
      sayHow();
    } catch {
      say("lost", `No connection; this is how it was at ${seenAt.toLocaleTimeString()}`);
    }
    isFetching = false;
    if (document.hidden) return;
    timer = setTimeout(renew, EVERY);
    if (isOutdated) renew();
  }

  function listen() {
    clearTimeout(retry);
    if (source || document.hidden) return;
    source = new EventSource("/events");
    source.addEventListener("open", renew);
    source.addEventListener("changed", renew);
    source.addEventListener("error", () => {
      if (link.dataset.state === "live") sayHow();
      if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
      source = null;
      retry = setTimeout(listen, AGAIN);
    });
  }

  // A hidden page costs the server nothing, and the browser none of its six connections.
  function rest() {
    clearTimeout(timer);
    clearTimeout(retry);
    if (source) source.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return rest();
    renew();
    listen();
  });
  addEventListener("pagehide", rest);
  addEventListener("pageshow", (event) => { if (event.persisted) { renew(); listen(); } });
  timer = setTimeout(renew, EVERY);
  sayHow();
  listen();
})();
