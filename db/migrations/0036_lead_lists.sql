-- Lists of the leads of a template, and of inbound leads, among many others.
CREATE INDEX leads_by_template ON leads (account_id, template_id, id);
CREATE INDEX leads_inbound ON leads (account_id, id) WHERE direction = 'inbound';
