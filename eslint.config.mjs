// The scripts of the HTML pages. They share one scope, and tsc knows what is undefined in it; eslint looks for the rest.
import js from "@eslint/js";

export default [
  { ignores: ["**/vendor/", "**/*.min.js"] },
  {
    files: ["analyzer/esper_analyzer/reporting/web/*.js"],
    ...js.configs.recommended,
    languageOptions: { ecmaVersion: 2023, sourceType: "script" },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      ...js.configs.recommended.rules,
      "no-undef": "off", // what another script declares; tsc checks it
      "no-unused-vars": ["error", { vars: "local", argsIgnorePattern: "^_" }],
      "array-callback-return": "error",
      "consistent-return": "error",
      eqeqeq: "error",
      "no-implicit-globals": "off",
      "no-shadow": "error",
      "no-unmodified-loop-condition": "error",
      "no-useless-return": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "error",
      strict: ["error", "global"],
    },
  },
];
