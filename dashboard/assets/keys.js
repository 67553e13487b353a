/* The keyboard: every key of the help overlay (dashboard/components/keys.py lists them for the reader). */
(function () {
    'use strict';
    const cm = (window.cm = window.cm || {});
    const TYPING = 'input:not([type=range]), textarea, select, [contenteditable=true], [role=slider], [role=listbox], [role=combobox], [role=grid], .ag-root';
    const PRESSED = 'button, a, summary, [role=button], [role=tab], [role=option], [role=menuitem]';

    const layer = (by) => {
        const names = cm.layers || [];
        const wanted = names[Math.min(names.length - 1, Math.max(0, names.indexOf(cm.layer) + by))];
        if (wanted && wanted !== cm.layer) cm.go({layer: wanted, unit: null, track: null});
    };
    const unit = (by) => {
        if (!document.getElementById('unit-input')) return;
        const now = cm.query('unit');
        cm.go({unit: now === null ? 0 : Math.max(0, Number(now) + by)});
    };
    const tab = (number) => {
        const link = document.querySelectorAll('#tabs a')[number - 1];
        if (link) link.click();
    };
    /* Tracked neurons and marked steps are lists in the address; the bar over the map shows them as buttons. */
    cm.toggle = (name, value) => {
        const held = (cm.query(name) || '').split('.').filter(Boolean);
        const rest = held.filter((one) => one !== String(value));
        cm.go({[name]: (rest.length < held.length ? rest : [...held, value]).join('.')});
    };
    const press = (name) => {
        const button = document.querySelector(`.tracked .small:not(.on)[data-toggle=${name}]`);
        if (button) button.click();
    };
    cm.dialog = (name) => {
        const dialog = document.getElementById(name);
        if (dialog) dialog.open ? dialog.close() : dialog.showModal();
    };
    const step = (event, by) => {
        if (!cm.hasClock()) return false;
        cm.pause();
        cm.seekBy(by * (event.shiftKey ? 10 : 1));
    };
    const actions = {
        ArrowLeft: (event) => step(event, -1),
        ArrowRight: (event) => step(event, 1),
        ' ': () => (cm.hasClock() ? (cm.playing ? cm.pause() : cm.play()) : false),
        l: () => cm.follow(),
        '[': () => layer(-1),
        ']': () => layer(1),
        ',': () => unit(-1),
        '.': () => unit(1),
        k: () => press('track'),
        m: () => press('marks'),
        d: () => document.getElementById('scheme-button').click(),
        t: () => cm.allTables(),
        Escape: () => cm.go({unit: null}),
        '?': () => cm.dialog('keys'),
    };
    document.addEventListener('keydown', (event) => {
        if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
        const at = event.target.closest ? event.target : document.body;
        const dialog = document.querySelector('dialog[open]');
        if (dialog && !(dialog.id === 'keys' && event.key === '?')) return; // the browser closes it on Escape
        if (at.closest(TYPING) || (event.key === ' ' && at.closest(PRESSED))) return;
        const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
        const digit = /^[1-9]$/.test(key);
        const action = digit ? () => tab(Number(key)) : actions[key];
        if (!action || action(event) === false) return;
        event.preventDefault();
    });
    document.addEventListener('click', (event) => {
        if (!event.target.closest) return;
        const [toggle, opener] = ['[data-toggle]', '[data-dialog]'].map((one) => event.target.closest(one));
        if (opener) cm.dialog(opener.dataset.dialog);
        else if (toggle) cm.toggle(toggle.dataset.toggle, toggle.dataset.value);
        else if (event.target.closest('#play-button')) cm.playing ? cm.pause() : cm.play();
        else if (event.target.matches('dialog.dialog')) event.target.close(); // beside what is in it
    });
})();
