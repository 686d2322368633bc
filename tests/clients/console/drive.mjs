// Drives headless Chromium through the page. One argument: JSON {"act", "url", "account", "shots", ...}; what is wrong
// ends it with a message. Screenshots go to the directory `shots`.
import { chromium } from 'playwright-core';
import { join } from 'node:path';

const options = JSON.parse(process.argv[2]);
const viewports = {
  phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  desktop: { viewport: { width: 1280, height: 900 } },
};

function fail(message) {
  throw new Error(message);
}

// What every page of the console must be like: nothing wider than the screen, every field named, no complaint of the
// browser (a content security policy that is violated is one).
async function sound(page, complaints) {
  const found = await page.evaluate(() => {
    const named = (field) =>
      field.labels?.length > 0 || field.getAttribute('aria-label') || field.type === 'hidden' || field.hidden;
    const fields = [...document.querySelectorAll('input, textarea, select')];
    return {
      wide: document.documentElement.scrollWidth - window.innerWidth,
      unnamed: fields.filter((field) => !named(field)).map((field) => field.outerHTML),
      headings: document.querySelectorAll('h1').length,
      scripts: document.scripts.length,
      language: document.documentElement.lang,
    };
  });
  if (found.wide > 0) fail(`${page.url()}: ${found.wide} pixels wider than the screen`);
  if (found.unnamed.length > 0) fail(`${page.url()}: fields without a label: ${found.unnamed}`);
  if (found.headings !== 1 || found.scripts !== 0 || found.language !== 'en') fail(JSON.stringify(found));
  if (complaints.length > 0) fail(`${page.url()}: ${complaints}`);
}

let number = 0;
async function shoot(page, name) {
  number += 1;
  const file = `${options.look}-${options.scheme ?? 'light'}-${options.act}-${number}-${name}.png`;
  await page.screenshot({ path: join(options.shots, file), fullPage: true });
}

async function signIn(page) {
  await page.getByRole('link', { name: 'Sign in' }).click();
  await interactions(page);
}

// The provider's own pages: who one is, and that one agrees.
async function interactions(page) {
  await page.fill('input[name=login]', options.account);
  await page.fill('input[name=password]', 'any');
  await page.click('button[type=submit]');
  const agree = page.getByRole('button', { name: 'Continue' });
  await agree.click();
}

const acts = {
  // Follows the link of a notification, signs in, and answers.
  async answer(page, complaints) {
    await page.goto(`${options.url}/requests/${options.request}`);
    if (!page.url().includes('/sign-in')) fail(`not asked to sign in at ${page.url()}`);
    await sound(page, complaints);
    await shoot(page, 'sign-in');
    await signIn(page);
    await page.waitForURL(`**/requests/${options.request}`);
    await sound(page, complaints);
    await shoot(page, 'request');
    const verdict = page.getByRole('button', { name: options.verdict, exact: true });
    await verdict.click();
    // The browser itself wants a reason.
    if (!(await page.getByRole('heading', { name: 'Your answer' }).isVisible())) fail('answered without a reason');
    await page.getByLabel('Reason').fill(options.reason);
    if (options.scope) await page.getByLabel(options.scope).check();
    await verdict.click();
    await page.waitForURL('**/requests/*?done=*');
    await sound(page, complaints);
    await shoot(page, 'answered');
    await page.getByRole('link', { name: 'Queue' }).first().click();
    await sound(page, complaints);
    await shoot(page, 'queue');
    await page.getByRole('link', { name: 'History' }).click();
    await sound(page, complaints);
    await page.getByText(options.reason).first().waitFor({ state: 'attached' });
    await shoot(page, 'history');
    await page.getByRole('link', { name: /Grants/ }).click();
    await sound(page, complaints);
    await shoot(page, 'grants');
    if (await page.getByRole('link', { name: /Break glass/ }).isVisible()) {
      await page.getByRole('link', { name: /Break glass/ }).click();
      await sound(page, complaints);
      await shoot(page, 'break-glass');
    }
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.waitForURL('**/sign-in');
    await page.goto(`${options.url}/`);
    if (!page.url().includes('/sign-in')) fail('still signed in');
  },

  // The queue with what is in it.
  async queue(page, complaints) {
    await page.goto(`${options.url}/`);
    await signIn(page);
    await page.waitForURL(`${options.url}/`);
    await sound(page, complaints);
    for (const more of await page.locator('details > summary.row').all()) await more.click();
    await sound(page, complaints);
    await shoot(page, 'queue');
  },

  // The device flow's other end: the code that a terminal shows, typed in.
  async device(page) {
    await page.goto(options.url);
    await page.fill('input[name=user_code]', options.code);
    await page.getByRole('button', { name: /Continue/i }).first().click();
    const confirm = page.getByRole('button', { name: /Continue/i }).first();
    await confirm.click();
    await interactions(page);
    await page.getByText(/Sign-in Success/i).first().waitFor();
  },
};

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--no-proxy-server',
    // The provider's own pages ask for a font from the Internet, of which there is none.
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
  ],
});
try {
  const context = await browser.newContext({ ...viewports[options.look], colorScheme: options.scheme ?? 'light' });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => {
    // The provider's own pages complain of the font.
    if (message.type() === 'error' && page.url().startsWith(new URL(options.url).origin)) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  await acts[options.act](page, complaints);
} finally {
  await browser.close();
}
