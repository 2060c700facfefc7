"""Salesforce: an Account is a company, a Contact a person, an Opportunity a deal."""
