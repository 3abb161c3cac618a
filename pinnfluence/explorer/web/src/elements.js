// Elements of the page.

/**
 * @param {string} tag @param {any} content texts and elements @param {Record<string, any>} attributes
 * @returns {any}
 */
export function element(tag, content = [], attributes = {}) {
  const made = document.createElement(tag);
  made.append(...[content].flat());
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A box or a button of a group, with its words. */
export const choice = (type, name, value, text) =>
  element("label", [element("input", [], { type, name, value }), element("span", text)], { title: text });

/** Groups of options of a select; empty groups are left out. @param {any} select */
export function options(select, groups, text) {
  select.replaceChildren(...Object.entries(groups).filter(([, values]) => values.length).map(([label, values]) =>
    element("optgroup", values.map((value) => element("option", text(value), { value })), { label })));
}
