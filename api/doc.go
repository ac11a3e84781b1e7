// Package api serves the HTTP interface: routes, parameters, JSON shapes,
// statuses and error texts, one file per resource. What it needs from the
// agent it declares as small interfaces.
package api
