package main

import (
	"flag"
	"fmt"
	"net"
	"strconv"

	"github.com/hashicorp/consul/api"
)

func servicesCommand() *command {
	return &command{
		name:     "services",
		summary:  "Register and deregister instances of services at the agent",
		children: []*command{deregisterCommand(), registerCommand()},
		examples: []example{
			{"An instance in one line", "muster services register -name=web -id=web-1 -port=8080"},
			{"Take it away", "muster services deregister -id=web-1"},
		},
	}
}

func registerCommand() *command {
	return &command{
		name:      "register",
		summary:   "Register instances of services",
		arguments: "[FILE...]",
		most:      -1,
		details: `Instances come from files in the syntax of the agent's configuration, which can
hold checks too, or one instance comes from flags: not from both.`,
		examples: []example{
			{"From flags", "muster services register -name=web -port=8080 -tag=v1 -tag=blue -meta=rack=r1"},
			{"From a file", "muster services register web.json"},
		},
		new: func() runner { return &registerRunner{} },
	}
}

type registerRunner struct {
	connection connection
	instance   instanceFlags
}

// instanceFlags describe one instance.
type instanceFlags struct {
	name, id, address, kind, socket string
	port                            int
	tags                            listFlag
	meta                            mapFlag
	taggedAddresses                 mapFlag
}

func (r *registerRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	i := &r.instance
	flags.StringVar(&i.name, "name", "", "The `name` of the service.")
	flags.StringVar(&i.id, "id", "", "The `ID` of the instance; without it, the name.")
	flags.StringVar(&i.address, "address", "", "The IP `address` or host name, without a port; without it, the node's.")
	flags.IntVar(&i.port, "port", 0, "The `port` of the instance.")
	flags.Var(&i.tags, "tag", "A `tag` of the instance; may be repeated.")
	flags.Var(&i.meta, "meta", "Metadata, as `key=value`; may be repeated.")
	flags.Var(&i.taggedAddresses, "tagged-address", "Another address, as `name=host:port`; may be repeated.")
	flags.StringVar(&i.socket, "socket", "", "The `path` of a Unix socket, instead of address and port.")
	flags.StringVar(&i.kind, "kind", "", "The `kind` of the service; empty for all that is not a service mesh.")
}

func (r *registerRunner) run(streams streams, files []string) error {
	registrations, err := r.registrations(files)
	if err != nil {
		return err
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	for _, registration := range registrations {
		if err := register(client, registration); err != nil {
			return fmt.Errorf("cannot register the service %q: %w", registration.Name, err)
		}
		fmt.Fprintf(streams.out, "Registered service: %s\n", registration.Name)
	}
	return nil
}

// registrations are what the command line describes, by files or by flags.
func (r *registerRunner) registrations(files []string) ([]registration, error) {
	switch {
	case len(files) > 0 && r.instance.given():
		return nil, fmt.Errorf("an instance comes from files or from flags, not from both")
	case len(files) > 0:
		return readRegistrations(files)
	case r.instance.name == "":
		return nil, fmt.Errorf("give files with services, or at least -name")
	}
	one, err := r.instance.registration()
	return []registration{one}, err
}

// given reports whether any flag describes an instance.
func (i *instanceFlags) given() bool {
	return i.name != "" || i.id != "" || i.address != "" || i.kind != "" || i.socket != "" ||
		i.port != 0 || len(i.tags) > 0 || len(i.meta) > 0 || len(i.taggedAddresses) > 0
}

func (i *instanceFlags) registration() (registration, error) {
	if _, _, err := net.SplitHostPort(i.address); err == nil {
		return registration{}, fmt.Errorf("the address %q must not contain a port: give it with -port", i.address)
	}
	tagged := make(map[string]api.ServiceAddress, len(i.taggedAddresses))
	for name, text := range i.taggedAddresses {
		address, err := splitAddress(text)
		if err != nil {
			return registration{}, fmt.Errorf("the tagged address %s: %w", name, err)
		}
		tagged[name] = address
	}
	return registration{AgentServiceRegistration: api.AgentServiceRegistration{
		Kind:            api.ServiceKind(i.kind),
		ID:              i.id,
		Name:            i.name,
		Address:         i.address,
		Port:            i.port,
		Tags:            i.tags,
		Meta:            i.meta,
		TaggedAddresses: tagged,
		SocketPath:      i.socket,
	}}, nil
}

// splitAddress reads host:port.
func splitAddress(text string) (api.ServiceAddress, error) {
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		return api.ServiceAddress{}, fmt.Errorf("%q is not of the form host:port", text)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return api.ServiceAddress{}, fmt.Errorf("the port %q of %q is not a number from 0 to 65535", portText, text)
	}
	return api.ServiceAddress{Address: host, Port: int(port)}, nil
}

func deregisterCommand() *command {
	return &command{
		name:      "deregister",
		summary:   "Remove instances of services",
		arguments: "[FILE...]",
		most:      -1,
		details:   "The instances are those of the files, by ID or else by name, or the one of -id.",
		examples: []example{
			{"By ID", "muster services deregister -id=web-1"},
			{"All that a file registered", "muster services deregister web.json"},
		},
		new: func() runner { return &deregisterRunner{} },
	}
}

type deregisterRunner struct {
	connection connection
	id         string
}

func (r *deregisterRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.StringVar(&r.id, "id", "", "The `ID` of the instance.")
}

func (r *deregisterRunner) run(streams streams, files []string) error {
	ids, err := r.ids(files)
	if err != nil {
		return err
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := client.Agent().ServiceDeregister(id); err != nil {
			return fmt.Errorf("cannot deregister the service %q: %w", id, err)
		}
		fmt.Fprintf(streams.out, "Deregistered service: %s\n", id)
	}
	return nil
}

func (r *deregisterRunner) ids(files []string) ([]string, error) {
	switch {
	case len(files) > 0 && r.id != "":
		return nil, fmt.Errorf("instances come from files or from -id, not from both")
	case r.id != "":
		return []string{r.id}, nil
	case len(files) == 0:
		return nil, fmt.Errorf("give files with services, or -id")
	}
	registrations, err := readRegistrations(files)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(registrations))
	for _, registration := range registrations {
		if registration.ID != "" {
			ids = append(ids, registration.ID)
		} else {
			ids = append(ids, registration.Name)
		}
	}
	return ids, nil
}
