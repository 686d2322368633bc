// A certified OpenID provider (npm oidc-provider) where approvers sign in. One argument: JSON
// {"port", "redirect", "groups": {account: [group]}}. Whoever types in a name is that account (its devInteractions).
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const options = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${options.port}`;
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: 'approvers',
      // What runs on approvers' machines keeps no secret.
      token_endpoint_auth_method: 'none',
      // Plain http on loopback is for native clients only.
      application_type: 'native',
      grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
      redirect_uris: [options.redirect],
    },
  ],
  scopes: ['openid', 'profile', 'email', 'groups'],
  claims: { openid: ['sub'], profile: ['name'], groups: ['groups'] },
  // Groups go into the ID token itself.
  conformIdTokenClaims: false,
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
  },
  ttl: { IdToken: 3600, DeviceCode: 600 },
  findAccount: (context, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      name: id[0].toUpperCase() + id.slice(1),
      groups: options.groups[id] ?? [],
    }),
  }),
});
createServer(provider.callback()).listen(options.port, '127.0.0.1');
