package api

import "net/http"

// route is one line of the table: a path, whose last part may be a variable
// "*", and what is done with each method.
type route struct {
	pattern string
	// verbs are in the order in which clients read them in Allow.
	verbs []verb
	// inner marks paths whose methods the endpoint checks itself: OPTIONS is
	// answered with an empty object, and the Allow of a refusal lacks OPTIONS.
	inner bool
	// partitions marks endpoints that refuse partitions but know no namespaces.
	partitions bool
	// copies is what ?cached means here.
	copies copyKind

	allow string
	// measured is the path among the metrics, with "_" for the variable.
	measured string
	methods  map[string]handler
}

// handler answers one call with a value for the body, or an error.
type handler func(*call) (any, error)

type verb struct {
	method string
	serve  handler
}

func get(serve handler) []verb  { return []verb{{http.MethodGet, serve}} }
func put(serve handler) []verb  { return []verb{{http.MethodPut, serve}} }
func post(serve handler) []verb { return []verb{{http.MethodPost, serve}} }

// all gives several methods to one handler.
func all(serve handler, methods ...string) []verb {
	verbs := make([]verb, len(methods))
	for i, method := range methods {
		verbs[i] = verb{method, serve}
	}
	return verbs
}

// routes is every path that is answered, each on one line.
func routes() []route {
	return append(resources(), append(later(), mesh()...)...)
}

// resources are the endpoints that this version serves.
func resources() []route {
	return []route{
		{pattern: "/v1/kv/*", verbs: []verb{{http.MethodGet, getKey}, {http.MethodPut, putKey}, {http.MethodDelete, deleteKey}}},
		{pattern: "/v1/txn", verbs: put(transact)},

		{pattern: "/v1/catalog/register", verbs: put(register)},
		{pattern: "/v1/catalog/deregister", verbs: put(deregister)},
		{pattern: "/v1/catalog/datacenters", verbs: get(datacenters), copies: copySimple},
		{pattern: "/v1/catalog/nodes", verbs: get(catalogNodes), partitions: true},
		{pattern: "/v1/catalog/services", verbs: get(catalogServices), copies: copyFollowed},
		{pattern: "/v1/catalog/service/*", verbs: get(catalogService), copies: copyFollowed},
		{pattern: "/v1/catalog/node/*", verbs: get(catalogNode)},
		{pattern: "/v1/catalog/node-services/*", verbs: get(catalogNodeServices)},
		{pattern: "/v1/catalog/why/*", verbs: get(byWhy(catalogWhy))},

		{pattern: "/v1/health/node/*", verbs: get(healthNode)},
		{pattern: "/v1/health/checks/*", verbs: get(healthChecks)},
		{pattern: "/v1/health/state/*", verbs: get(healthState)},
		{pattern: "/v1/health/service/*", verbs: get(healthService), copies: copyFollowed},

		{pattern: "/v1/agent/self", verbs: get(agentSelf)},
		{pattern: "/v1/agent/version", verbs: get(agentVersion)},
		{pattern: "/v1/agent/members", verbs: get(agentMembers)},
		{pattern: "/v1/agent/host", verbs: get(agentHost)},
		{pattern: "/v1/agent/join/*", verbs: put(join)},
		{pattern: "/v1/agent/leave", verbs: put(leave)},
		{pattern: "/v1/agent/force-leave/*", verbs: put(forceLeave)},
		{pattern: "/v1/agent/reload", verbs: put(reload)},
		{pattern: "/v1/agent/monitor", verbs: get(agentMonitor)},
		{pattern: "/v1/agent/metrics", verbs: get(agentMetrics)},
		{pattern: "/v1/agent/metrics/stream", verbs: get(agentMetricsStream)},
		{pattern: "/v1/agent/maintenance", verbs: put(nodeMaintenance)},
		{pattern: "/v1/agent/service/maintenance/*", verbs: put(serviceMaintenance)},
		{pattern: "/v1/agent/services", verbs: get(agentServices)},
		{pattern: "/v1/agent/service/*", verbs: get(agentService)},
		{pattern: "/v1/agent/service/register", verbs: put(registerService)},
		{pattern: "/v1/agent/service/deregister/*", verbs: put(deregisterService)},
		{pattern: "/v1/agent/checks", verbs: get(agentChecks)},
		{pattern: "/v1/agent/check/register", verbs: put(registerCheck)},
		{pattern: "/v1/agent/check/deregister/*", verbs: put(deregisterCheck)},
		{pattern: "/v1/agent/check/pass/*", verbs: put(passCheck)},
		{pattern: "/v1/agent/check/warn/*", verbs: put(warnCheck)},
		{pattern: "/v1/agent/check/fail/*", verbs: put(failCheck)},
		{pattern: "/v1/agent/check/update/*", verbs: put(updateCheck)},
		{pattern: "/v1/agent/health/service/id/*", verbs: get(agentHealthByID)},
		{pattern: "/v1/agent/health/service/name/*", verbs: get(agentHealthByName)},
		{pattern: "/v1/agent/why/service/*", verbs: get(byWhy(agentWhy))},

		{pattern: "/v1/status/leader", verbs: get(statusLeader)},
		{pattern: "/v1/status/peers", verbs: get(statusPeers)},

		{pattern: "/v1/operator/raft/configuration", verbs: get(byOperator(raftConfiguration))},
		{pattern: "/v1/operator/raft/peer", verbs: all(byOperator(removePeer), http.MethodDelete)},
		{pattern: "/v1/operator/raft/transfer-leader", verbs: post(byOperator(transferLeader))},
		{pattern: "/v1/operator/autopilot/configuration", verbs: []verb{{http.MethodGet, byOperator(getAutopilot)}, {http.MethodPut, byOperator(putAutopilot)}}},
		{pattern: "/v1/operator/autopilot/health", verbs: get(byOperator(autopilotHealth))},
		{pattern: "/v1/operator/autopilot/state", verbs: get(byOperator(autopilotState))},
		{pattern: "/v1/operator/usage", verbs: get(byOperator(operatorUsage))},

		{pattern: "/v1/snapshot", verbs: []verb{{http.MethodGet, bySnapshots(saveSnapshot)}, {http.MethodPut, bySnapshots(restoreSnapshot)}}},
	}
}

// later are the endpoints that are known by name but not there yet, and those
// of access control, which answer as an agent does that has it switched off.
func later() []route {
	const getMethod, putMethod, deleteMethod = http.MethodGet, http.MethodPut, http.MethodDelete
	lines := []route{
		{pattern: "/v1/acl/bootstrap", verbs: put(aclDisabled)},
		{pattern: "/v1/acl/login", verbs: post(aclDisabled)},
		{pattern: "/v1/acl/logout", verbs: post(aclDisabled)},
		{pattern: "/v1/acl/replication", verbs: get(aclDisabled)},
		{pattern: "/v1/acl/token/self", verbs: get(aclDisabled)},
		{pattern: "/v1/acl/policy/name/*", verbs: get(aclDisabled)},
		{pattern: "/v1/acl/role/name/*", verbs: get(aclDisabled)},
		{pattern: "/v1/acl/templated-policies", verbs: get(aclDisabled)},
		{pattern: "/v1/acl/templated-policy/name/*", verbs: get(aclDisabled)},
		{pattern: "/v1/acl/templated-policy/preview/*", verbs: post(aclDisabled)},
		{pattern: "/v1/internal/acl/authorize", verbs: post(aclDisabled)},
		{pattern: "/v1/agent/token/*", verbs: put(aclDisabled)},

		{pattern: "/v1/session/create", verbs: put(unimplemented)},
		{pattern: "/v1/session/destroy/*", verbs: put(unimplemented)},
		{pattern: "/v1/session/renew/*", verbs: put(unimplemented)},
		{pattern: "/v1/session/info/*", verbs: get(unimplemented)},
		{pattern: "/v1/session/node/*", verbs: get(unimplemented)},
		{pattern: "/v1/session/list", verbs: get(unimplemented)},

		{pattern: "/v1/event/fire/*", verbs: put(unimplemented)},
		{pattern: "/v1/event/list", verbs: get(unimplemented)},
		{pattern: "/v1/query", verbs: all(unimplemented, getMethod, http.MethodPost)},
		{pattern: "/v1/query/*", verbs: all(unimplemented, getMethod, putMethod, deleteMethod), inner: true},

		{pattern: "/v1/coordinate/datacenters", verbs: get(unimplemented), partitions: true},
		{pattern: "/v1/coordinate/nodes", verbs: get(unimplemented), partitions: true},
		{pattern: "/v1/coordinate/node/*", verbs: get(unimplemented), partitions: true},
		{pattern: "/v1/coordinate/update", verbs: put(unimplemented), partitions: true},

		{pattern: "/v1/operator/keyring", verbs: all(unimplemented, getMethod, http.MethodPost, putMethod, deleteMethod)},
	}
	for _, kind := range []struct{ many, one string }{
		{"policies", "policy"}, {"roles", "role"}, {"tokens", "token"},
		{"auth-methods", "auth-method"}, {"binding-rules", "binding-rule"},
	} {
		lines = append(lines,
			route{pattern: "/v1/acl/" + kind.many, verbs: get(aclDisabled)},
			route{pattern: "/v1/acl/" + kind.one, verbs: put(aclDisabled)},
			route{pattern: "/v1/acl/" + kind.one + "/*", verbs: all(aclDisabled, getMethod, putMethod, deleteMethod)})
	}
	return lines
}

// mesh are the endpoints of the service mesh, which Muster has not: each says
// what an agent without a mesh says.
func mesh() []route {
	return []route{
		{pattern: "/v1/agent/connect/ca/roots", verbs: get(connectDisabled)},
		{pattern: "/v1/agent/connect/ca/leaf/*", verbs: get(connectDisabled)},
		{pattern: "/v1/agent/connect/authorize", verbs: post(connectDisabled)},
		{pattern: "/v1/connect/ca/roots", verbs: get(connectDisabled)},
		{pattern: "/v1/connect/ca/configuration", verbs: all(connectDisabled, http.MethodGet, http.MethodPut)},
		{pattern: "/v1/catalog/connect/*", verbs: get(noInstances)},
		{pattern: "/v1/health/connect/*", verbs: get(noInstances)},
		{pattern: "/v1/health/ingress/*", verbs: get(noInstances)},
		{pattern: "/v1/catalog/gateway-services/*", verbs: get(noEntries)},
		{pattern: "/v1/config", verbs: put(unimplemented)},
		{pattern: "/v1/config/*", verbs: []verb{{http.MethodGet, configEntry}, {http.MethodDelete, unimplemented}}},
		{pattern: "/v1/connect/intentions", verbs: []verb{{http.MethodGet, noEntries}, {http.MethodPost, unimplemented}}},
		{pattern: "/v1/connect/intentions/*", verbs: all(unimplemented, http.MethodGet, http.MethodPut, http.MethodDelete)},
		{pattern: "/v1/discovery-chain/*", verbs: all(unimplemented, http.MethodGet, http.MethodPost)},
		{pattern: "/v1/exported-services", verbs: get(noEntries)},
		{pattern: "/v1/peerings", verbs: get(noEntries)},
		{pattern: "/v1/peering", verbs: all(unimplemented, http.MethodPost)},
		{pattern: "/v1/peering/*", verbs: all(unimplemented, http.MethodGet, http.MethodPost, http.MethodDelete)},
	}
}

// unimplemented refuses what this version knows by name only, so that no client
// takes silence for success.
func unimplemented(c *call) (any, error) {
	return nil, notYet(c.r.Method + " " + c.route.pattern)
}

// aclDisabled is what an agent without access control answers to its endpoints.
func aclDisabled(*call) (any, error) { return nil, refuse(http.StatusUnauthorized, textACLDisabled) }
