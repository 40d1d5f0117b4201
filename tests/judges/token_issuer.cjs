// oauth2-mock-server as an issuer whose claims and keys the test chooses.
//
// Arguments: the package's folder, the port, and keys as ALGORITHM:KID. A token is asked for as a client does, at
// /token; the form's member `claims` is laid over the claims that the server makes, and null takes one away.

const [, , folder, port, ...keys] = process.argv;
const { OAuth2Server } = require(folder);

async function main() {
  const server = new OAuth2Server();
  for (const key of keys) {
    const [algorithm, kid] = key.split(':');
    await server.issuer.keys.generate(algorithm, { kid });
  }
  server.issuer.url = `http://127.0.0.1:${port}`;
  server.service.on('beforeTokenSigning', (token, request) => {
    for (const [name, value] of Object.entries(JSON.parse(request.body.claims))) {
      if (value === null) delete token.payload[name];
      else token.payload[name] = value;
    }
  });
  await server.start(Number(port), '127.0.0.1');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
