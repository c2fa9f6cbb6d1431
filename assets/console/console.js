// What pages do better with a script; every page works without it.

// Times in the reader's own zone.
const localTimes = (root) => {
  for (const time of root.querySelectorAll("time[data-local]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.valueOf())) continue;
    time.title = time.textContent;
    time.textContent = at.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
    time.removeAttribute("data-local");
  }
};

// Copies the code beside a button.
const copyButtons = (root) => {
  for (const button of root.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      const label = button.textContent;
      button.textContent = "✓";
      setTimeout(() => { button.textContent = label; }, 1500);
    });
  }
};

// A new key goes on to the playground within this tab. It ends with the log-in.
const KEY = "kx-key";
const playgroundKey = () => {
  for (const link of document.querySelectorAll("a[data-try-key]")) {
    link.hidden = false;
    link.addEventListener("click", () => {
      sessionStorage.setItem(KEY, document.getElementById("api-key").textContent);
    });
  }
  if (document.querySelector("form[action='/console/login']")) sessionStorage.removeItem(KEY);
};

// Ticking a model means these models alone.
const modelBoxes = () => {
  document.addEventListener("change", ({ target }) => {
    if (target.name === "models" && target.checked) target.form.elements.scope.value = "some";
  });
};

// Prints the page.
const printButtons = () => {
  for (const button of document.querySelectorAll("button[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  }
};

// Language and colours apply at once; without a script there is a button.
const preferences = () => {
  document.querySelector("footer button").hidden = true;
  for (const select of document.querySelectorAll("footer select")) {
    select.addEventListener("change", () => select.form.requestSubmit());
  }
};

const enhance = (root) => { localTimes(root); copyButtons(root); };
enhance(document);
preferences();
playgroundKey();
printButtons();
modelBoxes();
document.addEventListener("htmx:afterSettle", (event) => enhance(event.target.parentElement ?? document));
