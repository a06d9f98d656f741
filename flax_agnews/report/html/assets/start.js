fillContents();
startTheme();
startSorting();
startLeaderboard();
startChips();
startChoices();
startTexts();
startCharts();
// Milliseconds until the first frame with all that was in view was painted.
requestAnimationFrame(() => setTimeout(() => (document.documentElement.dataset.rendered = Math.ceil(performance.now()))));
