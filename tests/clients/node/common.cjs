// What the programs share: the server's port, embeddings without a model, and the closing line.
const assert = require("node:assert/strict");
const { createHash } = require("node:crypto");

const DIMS = 32;
const port = Number(process.argv[2]);

/** A unit vector of the text's words: texts that share words are near. */
function embed(text) {
  const vector = new Float32Array(DIMS);
  for (const word of text.toLowerCase().match(/\w+/g) ?? []) {
    const digest = createHash("sha256").update(word).digest();
    vector[digest[0] % DIMS] += digest[7] >= 128 ? 1 : -1;
  }
  const length = Math.hypot(...vector);
  return length === 0 ? vector : vector.map((component) => component / length);
}

const blob = (text) => Buffer.from(embed(text).buffer);

function near(found, wanted, tolerance = 1e-4) {
  assert.ok(Math.abs(Number(found) - wanted) <= tolerance, `found ${found} instead of ${wanted}`);
}

/** Runs the program, whose connections must all be closed at its end. */
function run(main) {
  main().then(
    () => console.log("all as expected"),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}

module.exports = { assert, blob, embed, near, port, run };
