// A certified OpenID provider (npm oidc-provider) for tests/identity. One argument: JSON
// {"ttl": seconds, "secret": {"id", "secret"}, "key": {"id", "jwk"}}.
// Says {"issuer": URL} in one line once it listens; a line "rotate" on standard input gives it a new signing key.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

// Its notices go there; standard output is for the test.
console.info = console.error;
const options = JSON.parse(process.argv[2]);
const server = createServer((request, response) => handler(request, response));
let handler;
let issuer;

function signingKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'ES256' };
}

function provider() {
  const common = {
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: 'ES256',
  };
  const made = new Provider(issuer, {
    jwks: { keys: [signingKey()] },
    clients: [
      {
        ...common,
        client_id: options.secret.id,
        client_secret: options.secret.secret,
        token_endpoint_auth_method: 'client_secret_basic',
      },
      {
        ...common,
        client_id: options.key.id,
        token_endpoint_auth_method: 'private_key_jwt',
        jwks: { keys: [options.key.jwk] },
      },
    ],
    enabledJWA: { clientAuthSigningAlgValues: ['ES256', 'RS256', 'PS256', 'EdDSA', 'Ed25519'] },
    scopes: ['api'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (context, resource) => ({
          scope: 'api',
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: options.ttl,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
    extraTokenClaims: () => ({ groups: ['agents', 'ci'] }),
  });
  return made.callback();
}

server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  handler = provider();
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
});

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  if (line === 'rotate') {
    handler = provider();
    process.stdout.write('{"rotated":true}\n');
  }
});
// The test went away.
lines.on('close', () => process.exit(0));
