/* The clock: a native slider over the strip. It stops at snapshots; its right end is live. */
(function () {
    'use strict';
    const cm = (window.cm = window.cm || {});
    cm.stops = {first: 0, last: 1, steps: []};

    cm.slider = () => {
        const place = document.getElementById('clock-slider');
        if (!place) return null;
        if (place.firstElementChild) return place.firstElementChild;
        const input = document.createElement('input');
        input.type = 'range';
        input.setAttribute('aria-label', 'Step');
        input.addEventListener('input', () => cm.seek(Number(input.value)));
        input.addEventListener('keydown', cm.clockKey);
        place.appendChild(input);
        return input;
    };

    /* Shows the address' step, unless the user has just moved the slider and the address is still to follow. */
    cm.showClock = () => {
        const input = cm.slider();
        if (!input || performance.now() - (cm.sought || -1e9) < 400) return;
        const past = cm.query('step');
        input.min = cm.stops.first;
        input.max = cm.stops.last;
        cm.setClock(input, past === null ? cm.stops.last : Number(past));
    };
    cm.setClock = (input, value) => {
        input.value = value;
        const share = (input.value - input.min) / Math.max(1, input.max - input.min);
        input.style.setProperty('--share', `${100 * share}%`);
        input.setAttribute('aria-valuetext', cm.query('step') === null ? `step ${input.value}, live` : `step ${input.value}`);
    };

    /* Goes to the snapshot nearest to a step; at the last one, back to live. */
    cm.seek = (step) => {
        const steps = cm.stops.steps;
        if (!steps.length) return;
        const nearest = steps.reduce((best, one) => (Math.abs(one - step) < Math.abs(best - step) ? one : best));
        cm.sought = performance.now();
        cm.setClock(cm.slider(), nearest);
        cm.go({step: nearest >= cm.stops.last ? null : nearest});
    };
    cm.seekBy = (count) => {
        const steps = cm.stops.steps;
        const now = cm.query('step') === null ? cm.stops.last : Number(cm.slider().value);
        let index = steps.findIndex((step) => step >= now);
        if (index < 0) index = steps.length - 1;
        cm.seek(steps[Math.min(steps.length - 1, Math.max(0, index + count))]);
    };
    const moves = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -1e9, End: 1e9};
    cm.clockKey = (event) => {
        if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        cm.seekBy(moves[event.key]);
    };
    cm.stripClicked = (event) => {
        const box = document.getElementById('strip-graph').getBoundingClientRect();
        const {first, last} = cm.stops;
        cm.seek(first + ((event.clientX - box.left) / box.width) * (last - first));
    };
})();
