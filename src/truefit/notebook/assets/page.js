// Without this script each fold still opens by itself; with it, one button opens them all.
(() => {
  const button = document.getElementById("code-button");
  const folds = document.querySelectorAll("details.code");
  if (!button || !folds.length) return;
  button.hidden = false;
  let open = false;
  button.addEventListener("click", () => {
    open = !open;
    folds.forEach((fold) => { fold.open = open; });
    button.textContent = open ? "Hide all code" : "Show all code";
  });
})();
