// What a page looks like to somebody who cannot see well or has a small screen. Evaluates to a list of complaints.
() => {
  const complaints = [];
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const over = (top, below) => {
    const mix = (key) => top[key] * top.a + below[key] * (1 - top.a);
    return { r: mix("r"), g: mix("g"), b: mix("b"), a: 1 };
  };
  const ground = (element) => {
    if (!element) return { r: 255, g: 255, b: 255, a: 1 };
    const own = parse(getComputedStyle(element).backgroundColor);
    return own.a === 1 ? own : over(own, ground(element.parentElement));
  };
  const opacity = (element) => element ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1;
  const channel = (value) => value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ({ r, g, b }) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const contrast = (color, element) => {
    const below = ground(element);
    const shown = over({ ...color, a: color.a * opacity(element) }, below);
    const [light, dark] = [luminance(shown), luminance(below)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  const judge = (color, element, text) => {
    const found = contrast(parse(color), element);
    if (found < 4.5) complaints.push(`contrast ${found.toFixed(2)}: ${text.trim().slice(0, 40)}`);
  };
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.nodeValue.trim() || !element.checkVisibility() || element.closest("script")) continue;
    count += 1;
    judge(getComputedStyle(element).color, element, walker.currentNode.nodeValue);
  }
  for (const input of document.querySelectorAll("input[placeholder]")) {
    judge(getComputedStyle(input, "::placeholder").color, input, "placeholder");
  }
  if (count < 20) complaints.push(`only ${count} texts were looked at`);
  const wide = document.documentElement;
  if (wide.scrollWidth > wide.clientWidth) complaints.push(`${wide.scrollWidth} wide in ${wide.clientWidth}`);
  for (const element of document.querySelectorAll("main *")) {
    const { right, width } = element.getBoundingClientRect();
    if (width && right > wide.clientWidth + 1 && !element.closest(".unseen, thead, pre")) {
      complaints.push(`sticks out: ${element.localName}.${element.className} ${element.textContent.slice(0, 40)}`);
    }
  }
  return complaints;
}
