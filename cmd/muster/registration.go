package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health/check"
)

// registration is what the agent is told of an instance. The client library
// leaves out some fields of checks, so the list of checks is our own.
type registration struct {
	api.AgentServiceRegistration
	Checks []serviceCheck `json:",omitempty"`

	token string
}

// serviceCheck is a check of an instance, with what the client library's type
// has no field for.
type serviceCheck struct {
	api.AgentServiceCheck
	DisableRedirects bool   `json:",omitempty"`
	OSService        string `json:",omitempty"`
	OutputMaxSize    int    `json:",omitempty"`
	// H2PingUseTLS is always said, because the agent takes its absence for yes.
	H2PingUseTLS bool
}

// register tells the agent of an instance, with the token that its definition
// names, if it names one.
func register(client *api.Client, r registration) error {
	_, err := client.Raw().Write("/v1/agent/service/register", r, nil, &api.WriteOptions{Token: r.token})
	return err
}

// newRegistration turns a definition of a file into a request to the agent.
func newRegistration(definition check.Registration) (registration, error) {
	service := definition.Service
	r := registration{
		AgentServiceRegistration: api.AgentServiceRegistration{
			Kind:              api.ServiceKind(service.Kind),
			ID:                service.ID,
			Name:              service.Name,
			Tags:              service.Tags,
			Port:              service.Port,
			Address:           service.Address,
			SocketPath:        service.SocketPath,
			EnableTagOverride: service.EnableTagOverride,
			Meta:              service.Meta,
		},
		token: definition.Token,
	}
	if len(service.TaggedAddresses) > 0 {
		r.TaggedAddresses = make(map[string]api.ServiceAddress, len(service.TaggedAddresses))
	}
	for name, address := range service.TaggedAddresses {
		r.TaggedAddresses[name] = api.ServiceAddress{Address: address.Address, Port: address.Port}
	}
	if service.Weights != (catalog.Weights{}) {
		r.Weights = &api.AgentWeights{Passing: service.Weights.Passing, Warning: service.Weights.Warning}
	}
	if service.Locality != nil {
		r.Locality = &api.Locality{Region: service.Locality.Region, Zone: service.Locality.Zone}
	}
	if service.Native {
		r.Connect = &api.AgentServiceConnect{Native: true}
	}
	if len(service.Proxy) > 0 {
		if err := json.Unmarshal(service.Proxy, &r.Proxy); err != nil {
			return registration{}, fmt.Errorf("the proxy of the service %q: %w", service.Name, err)
		}
	}
	for _, definition := range definition.Checks {
		r.Checks = append(r.Checks, newServiceCheck(definition))
	}
	return r, nil
}

func newServiceCheck(d check.Definition) serviceCheck {
	return serviceCheck{
		AgentServiceCheck: api.AgentServiceCheck{
			CheckID:                        d.ID,
			Name:                           d.Name,
			Notes:                          d.Notes,
			Status:                         string(d.Status),
			Args:                           d.ScriptArgs,
			HTTP:                           d.HTTP,
			Method:                         d.Method,
			Header:                         d.Header,
			Body:                           d.Body,
			TCP:                            d.TCP,
			TCPUseTLS:                      d.TCPUseTLS,
			UDP:                            d.UDP,
			GRPC:                           d.GRPC,
			GRPCUseTLS:                     d.GRPCUseTLS,
			H2PING:                         d.H2PING,
			DockerContainerID:              d.DockerContainerID,
			Shell:                          d.Shell,
			AliasNode:                      d.AliasNode,
			AliasService:                   d.AliasService,
			TTL:                            durationText(d.TTL),
			Interval:                       durationText(d.Interval),
			Timeout:                        durationText(d.Timeout),
			TLSServerName:                  d.TLSServerName,
			TLSSkipVerify:                  d.TLSSkipVerify,
			SuccessBeforePassing:           d.SuccessBeforePassing,
			FailuresBeforeWarning:          d.FailuresBeforeWarning,
			FailuresBeforeCritical:         d.FailuresBeforeCritical,
			DeregisterCriticalServiceAfter: durationText(d.DeregisterCriticalServiceAfter),
		},
		DisableRedirects: d.DisableRedirects,
		OSService:        d.OSService,
		OutputMaxSize:    d.OutputMaxSize,
		H2PingUseTLS:     d.H2PingUseTLS,
	}
}

// durationText leaves out a duration that was not given.
func durationText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// readRegistrations reads the services of files, in their order.
func readRegistrations(files []string) ([]registration, error) {
	var registrations []registration
	for _, path := range files {
		definitions, err := config.ParseServices(path)
		if err != nil {
			return nil, err // it names the file, and the line
		}
		if len(definitions) == 0 {
			return nil, fmt.Errorf("there are no services in %s", path)
		}
		for _, definition := range definitions {
			registration, err := newRegistration(definition)
			if err != nil {
				return nil, fmt.Errorf("cannot use the services of %s: %w", path, err)
			}
			registrations = append(registrations, registration)
		}
	}
	return registrations, nil
}
