fillContents();
startTheme();
startSorting();
startLeaderboard();
startChips();
startChoices();
startTexts();
startCharts();
// Read by tests: after the first frame with all that is in view.
requestAnimationFrame(() => setTimeout(() => (document.documentElement.dataset.rendered = "true")));
