-- Rows for development, so that price pages and checkouts have something to offer: plans on sale, a voucher, a
-- referral's reward. `npm start` and `supabase start` load them into a new database, `db push` leaves them out.
-- All prices and limits are examples.

select billing.change_plan(p.app, p.slug, 'An example for development', null,
  jsonb_build_object('description', p.description, 'is_visible', true) || p.plan, p.features,
  jsonb_build_array(
    jsonb_build_object('currency', 'USD', 'billing_period', 'month', 'amount_minor', p.month_minor, 'is_default', true),
    jsonb_build_object('currency', 'USD', 'billing_period', 'year', 'amount_minor', p.month_minor * 10)))
from (values
  ('selify', 'starter', 'For a shop that begins', 1000, '{"allowance_micro": 120000}'::jsonb,
    '{"weekly_credits": 20000}'::jsonb),
  ('selify', 'pro', 'For a shop that sells every day', 3000, '{"allowance_micro": 360000}',
    '{"weekly_credits": 60000, "api_access": true}'),
  ('amplify', 'basic', 'For a channel that begins', 900, '{}', '{"videos": 5}'),
  ('amplify', 'premium', 'For a channel that grows', 2900, '{}', '{"videos": 50, "advanced_analytics": true}'),
  ('spikeland', 'basic', 'For occasional work', 500, '{}', '{}'),
  ('spikeland', 'standard', 'For daily work', 1500, '{}', '{}')
) as p (app, slug, description, month_minor, plan, features);

insert into billing.vouchers (code, kind, credits_micro, description) values
  ('WELCOME-10', 'credits', 10000, 'An example for development: 10,000 micro-units, once a person')
on conflict on constraint vouchers_code_key do nothing;

-- What a referral brings both.
update billing.referral_programs set referrer_micro = 50000, referee_micro = 20000
where slug = 'standard' and referrer_micro = 0 and referee_micro = 0;
