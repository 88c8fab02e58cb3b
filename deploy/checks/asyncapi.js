'use strict';
// asyncapi.js FILE: reads an AsyncAPI document with AsyncAPI's own parser, which follows references
// into files beside it and checks the bindings. An error or a warning is a failure; advice is not.
const fs = require('node:fs');
const { Parser } = require('@asyncapi/parser');

const [ERROR, WARNING] = [0, 1];

async function main(file) {
  const text = fs.readFileSync(file, 'utf8');
  const { document, diagnostics } = await new Parser().parse(text, { source: file });
  const wrong = diagnostics.filter(({ severity }) => [ERROR, WARNING].includes(severity));
  for (const { message, path, range } of wrong) {
    console.error(`line ${range.start.line + 1}: ${path.join('.')}: ${message}`);
  }
  process.exit(document && wrong.length === 0 ? 0 : 1);
}

main(process.argv[2]);
