/* The clock: a native slider over the strip. It stops at snapshots; its right end is live. */
(function () {
    'use strict';
    const cm = (window.cm = window.cm || {});
    cm.stops = {first: 0, last: 1, steps: []};
    const TICK = 250; // milliseconds between two snapshots while playing
    const TICKS = 160; // most snapshots of one play: a long run is played in strides, in 40 seconds at most

    cm.slider = () => {
        const place = document.getElementById('clock-slider');
        if (!place) return null;
        if (place.firstElementChild) return place.firstElementChild;
        const input = document.createElement('input');
        input.type = 'range';
        input.setAttribute('aria-label', 'Step');
        input.addEventListener('input', () => cm.scrub(Number(input.value)));
        input.addEventListener('keydown', cm.clockKey);
        place.appendChild(input);
        return input;
    };
    cm.hasClock = () => {
        const app = document.getElementById('app');
        return !!app && !app.classList.contains('bare') && cm.stops.steps.length > 0;
    };

    /* Shows the address' step, unless the user has just moved the slider and the address is still to follow. */
    cm.showClock = () => {
        const input = cm.slider();
        cm.showPast();
        if (!input || performance.now() - (cm.sought || -1e9) < 400) return;
        const past = cm.query('step');
        input.min = cm.stops.first;
        input.max = cm.stops.last;
        cm.setClock(input, past === null ? cm.stops.last : cm.shown(Number(past)));
    };
    /* The snapshot that an address' step shows: the last one not after it. */
    cm.shown = (step) => cm.stops.steps.reduce((best, one) => (one <= step ? one : best), cm.stops.first);
    cm.setClock = (input, value) => {
        input.value = value;
        const share = (input.value - input.min) / Math.max(1, input.max - input.min);
        input.style.setProperty('--share', `${100 * share}%`);
        input.setAttribute('aria-valuetext', cm.query('step') === null ? `step ${input.value}, live` : `step ${input.value}, past`);
    };
    /* The past must not be taken for the present: the button, the frame and the ground say so. */
    cm.showPast = () => {
        const past = cm.query('step') !== null;
        const button = document.getElementById('live-button');
        if (button) {
            button.className = past ? 'follow' : 'follow on';
            button.textContent = past ? 'Go live' : '● Live';
            button.setAttribute('aria-pressed', String(!past));
        }
        document.body.classList.toggle('past', past);
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
    cm.scrub = (step) => {
        cm.pause();
        cm.seek(step);
    };
    /* The index of the stop on screen: the newest one while live. */
    cm.stop = () => {
        const steps = cm.stops.steps;
        if (cm.query('step') === null) return steps.length - 1;
        const index = steps.findIndex((step) => step >= Number(cm.slider().value));
        return index < 0 ? steps.length - 1 : index;
    };
    cm.seekBy = (count) => {
        const steps = cm.stops.steps;
        if (steps.length) cm.seek(steps[Math.min(steps.length - 1, Math.max(0, cm.stop() + count))]);
    };
    const moves = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -1e9, End: 1e9};
    cm.clockKey = (event) => {
        if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        event.stopPropagation();
        cm.pause();
        cm.seekBy(moves[event.key] * (event.shiftKey ? 10 : 1));
    };

    /* Play: from here, or from the start if live, to the end; then live again. It waits for the page, so it never runs ahead. */
    cm.play = () => {
        if (cm.playing || !cm.hasClock()) return;
        const stride = Math.max(1, Math.ceil(cm.stops.steps.length / TICKS));
        const end = cm.stops.last; // what comes while it plays is the present, not a part of the film
        if (cm.query('step') === null) cm.seek(cm.stops.first);
        cm.playing = setInterval(() => {
            if (cm.busy.size || document.hidden) return;
            cm.seekBy(stride);
            if (cm.query('step') === null || Number(cm.query('step')) >= end) {
                cm.pause();
                cm.go({step: null});
            }
        }, TICK);
        cm.showPlay();
    };
    cm.pause = () => {
        clearInterval(cm.playing);
        cm.playing = null;
        cm.showPlay();
    };
    cm.showPlay = () => {
        const button = document.getElementById('play-button');
        if (!button) return;
        button.textContent = cm.playing ? '❚❚' : '▶';
        button.setAttribute('aria-label', cm.playing ? 'Pause' : 'Play the run');
    };
    cm.follow = () => {
        cm.pause();
        cm.sought = null;
        cm.go({step: null});
    };

    /* The strip is the slider's picture: press and drag on either. The slider's own dragging ends where it is redrawn. */
    cm.listenStrip = (strip) => {
        const both = strip.closest('.clock-middle');
        const seek = (event) => {
            const box = strip.getBoundingClientRect();
            const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
            cm.scrub(cm.stops.first + share * (cm.stops.last - cm.stops.first));
        };
        let held = false;
        both.addEventListener('pointerdown', (event) => {
            if (event.button) return;
            held = true;
            seek(event);
        }, true);
        both.addEventListener('mousedown', (event) => {
            if (event.button) return;
            event.preventDefault();
            event.stopPropagation();
            if (cm.slider()) cm.slider().focus();
        }, true);
        window.addEventListener('pointermove', (event) => held && seek(event), true);
        for (const name of ['pointerup', 'pointercancel']) window.addEventListener(name, () => (held = false), true);
    };
})();
