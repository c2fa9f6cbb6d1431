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
document.addEventListener("htmx:afterSettle", (event) => enhance(event.target.parentElement ?? document));
