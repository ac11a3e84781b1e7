package api

import "net/http"

// byWhy serves an endpoint that needs the part of the agent that explains.
func byWhy(serve handler) handler {
	return func(c *call) (any, error) {
		if c.h.Why == nil {
			return unimplemented(c)
		}
		return serve(c)
	}
}

// catalogWhy explains why the instances of a service are answered or are not.
func catalogWhy(c *call) (any, error) {
	if c.rest == "" {
		return nil, badRequest(textMissingService)
	}
	o, err := c.readOptions()
	if err != nil {
		return nil, err
	}
	reasons, meta, err := ask(c, o, c.rest, c.h.Why.WhyService)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, true)
	if len(reasons.Instances)+len(reasons.Removed) == 0 {
		return nil, refuse(http.StatusNotFound, "No instance of the service %q is known, and none was removed lately: %s", c.rest, reasons.History.Text)
	}
	return reasons, nil
}

// agentWhy explains an instance of this agent.
func agentWhy(c *call) (any, error) {
	if c.rest == "" {
		return nil, badRequest("Missing service ID")
	}
	o, err := c.readNow()
	if err != nil {
		return nil, err
	}
	reasons, meta, err := c.h.Why.WhyInstance(c.r.Context(), o, c.rest)
	if err != nil {
		return nil, err
	}
	if reasons.History != nil {
		c.setMeta(meta, true)
	}
	return reasons, nil
}
