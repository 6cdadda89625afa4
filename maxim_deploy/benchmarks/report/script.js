"use strict";
for (const slider of document.querySelectorAll(".slider")) {
  const input = slider.querySelector("input");
  const show = () => {
    slider.style.setProperty("--split", `${input.value}%`);
    input.setAttribute("aria-valuetext", `${input.value} % before`);
  };
  input.addEventListener("input", show);
  show();
}
