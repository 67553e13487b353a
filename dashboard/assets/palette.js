/* ⌘K: one field over everything that has a name. All by keyboard: arrows choose, Enter opens, Escape closes. */
(function () {
    'use strict';
    const cm = (window.cm = window.cm || {});
    const GLYPHS = {page: '▤', run: '▶', neuron: '◉', concept: '★', meaning: '⌕'};
    let hits = [];
    let chosen = 0;
    let asked = 0;
    let due = null;

    const dialog = () => document.getElementById('palette');
    const list = () => document.getElementById('palette-hits');
    const field = () => {
        const place = document.getElementById('palette-place');
        if (place.firstElementChild) return place.firstElementChild;
        const input = document.createElement('input');
        Object.assign(input, {type: 'text', id: 'palette-q', className: 'palette-field', autocomplete: 'off', spellcheck: false});
        const said = {role: 'combobox', placeholder: 'runs, neurons, concepts, pages, or any words', 'aria-label': 'Find', 'aria-controls': 'palette-hits', 'aria-expanded': 'true', 'aria-autocomplete': 'list'};
        for (const [name, value] of Object.entries(said)) input.setAttribute(name, value);
        input.addEventListener('input', () => {
            clearTimeout(due);
            due = setTimeout(ask, 90);
        });
        input.addEventListener('keydown', key);
        place.appendChild(input);
        return input;
    };
    const element = (name, properties, ...children) => {
        const made = Object.assign(document.createElement(name), properties);
        made.append(...children);
        return made;
    };
    const ask = async () => {
        const number = ++asked;
        const query = new URLSearchParams({q: field().value, path: location.pathname, search: location.search});
        try {
            const answer = await fetch(`/find.json?${query}`);
            if (!answer.ok) throw new Error(String(answer.status));
            const found = await answer.json();
            if (number === asked) show(found.hits);
        } catch (error) {
            if (number === asked) show([], 'The dashboard gives no answer.');
        }
    };
    const show = (found, sentence) => {
        hits = found;
        chosen = 0;
        const lines = hits.map((hit, index) => {
            const glyph = element('span', {className: `palette-glyph is-${hit.kind}`, textContent: GLYPHS[hit.kind] || ''});
            glyph.setAttribute('aria-hidden', 'true');
            const line = element('div', {id: `palette-hit-${index}`, className: 'palette-hit'}, glyph,
                element('span', {className: 'palette-label', textContent: hit.label}),
                element('span', {className: 'palette-note', textContent: hit.note}),
                element('span', {className: 'palette-kind', textContent: hit.kind === 'meaning' ? '' : hit.kind}));
            line.setAttribute('role', 'option');
            line.addEventListener('mousemove', () => index !== chosen && choose(index, false));
            line.addEventListener('click', (event) => open(index, event.ctrlKey || event.metaKey));
            return line;
        });
        if (!lines.length) lines.push(element('p', {className: 'quiet palette-none', textContent: sentence || 'Nothing has such a name.'}));
        list().replaceChildren(...lines);
        choose(0, true);
    };
    const choose = (index, scroll) => {
        chosen = Math.min(hits.length - 1, Math.max(0, index));
        for (const [at, line] of [...list().querySelectorAll('.palette-hit')].entries()) {
            line.setAttribute('aria-selected', String(at === chosen));
            if (at === chosen && scroll) line.scrollIntoView({block: 'nearest'});
        }
        if (hits.length) field().setAttribute('aria-activedescendant', `palette-hit-${chosen}`);
        else field().removeAttribute('aria-activedescendant');
    };
    const open = (index, beside) => {
        const hit = hits[index];
        if (!hit) return;
        dialog().close();
        beside ? window.open(hit.href, '_blank', 'noopener') : cm.travel(hit.href);
    };
    const moves = {ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8};
    const key = (event) => {
        if (event.isComposing) return;
        if (event.key in moves) {
            const by = moves[event.key];
            const wraps = Math.abs(by) === 1 && hits.length;
            choose(wraps ? (chosen + by + hits.length) % hits.length : chosen + by, true);
        } else if (event.key === 'Enter') open(chosen, event.ctrlKey || event.metaKey);
        else return;
        event.preventDefault();
    };
    cm.palette = () => {
        const place = dialog();
        if (!place) return;
        if (place.open) return place.close();
        for (const other of document.querySelectorAll('dialog[open]')) other.close();
        const input = field();
        input.value = '';
        show([], '…');
        place.showModal();
        input.focus();
        ask();
    };
    document.addEventListener('keydown', (event) => {
        if ((event.metaKey || event.ctrlKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === 'k') {
            event.preventDefault();
            cm.palette();
        }
    });
    document.addEventListener('click', (event) => {
        if (!event.target.closest) return;
        if (event.target.closest('#palette-button')) cm.palette();
        else if (event.target.id === 'palette') dialog().close(); // beside it
    });
})();
