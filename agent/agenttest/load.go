package agenttest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// loadSlots is how many keys, and as many instances, are in use at a time.
	loadSlots = 6
	// keyOps and keyUnknown are how many operations, and how many of unknown
	// outcome, a key takes before another one is used in its place: so an order of
	// its operations is found quickly.
	keyOps, keyUnknown = 500, 5
	// requestLimit is how long a client waits for an answer.
	requestLimit = 12 * time.Second
	// thinkTime is the longest pause of a client between two requests, and
	// refusedPause the one after a request that did nothing.
	thinkTime, refusedPause = 8 * time.Millisecond, 40 * time.Millisecond
	// finishLimit is how long agents may take, when nothing is wrong any more, until
	// all can be read at them: a busy machine holds elections without a cause.
	finishLimit = time.Minute
	// hashInterval is between two looks at the states of all servers.
	hashInterval = 250 * time.Millisecond
)

// Target is an agent that clients use.
type Target struct {
	Name    string
	Address string // of the HTTP interface, as host:port
	Server  bool
}

// Load is clients that read and write the same keys and registrations at the same
// time, each through one agent, and remember all of it.
type Load struct {
	History *History

	targets []Target
	name    string
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	gate    sync.RWMutex // held for reading by each step of a client
	client  *http.Client
	slots   []*slot

	mu     sync.Mutex
	kept   map[string]string    // written once and acknowledged
	denied map[string]bool      // written once and refused
	local  map[[2]string]string // what is registered at an agent, by its name and the instance's
	states map[uint64]string    // hash by index
	asked  map[string]int       // operations that were answered, by agent
	odd    faults
}

// slot is a key that is replaced by another one now and then.
type slot struct {
	name string

	mu      sync.Mutex
	number  int
	ops     int
	unknown int
}

// key is the key that the slot has now, with the operation counted.
func (s *slot) key() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops++
	if s.ops > keyOps || s.unknown >= keyUnknown {
		s.number++
		s.ops, s.unknown = 0, 0
	}
	return s.name + "-" + strconv.Itoa(s.number)
}

// doubt notes an operation of unknown outcome.
func (s *slot) doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unknown++
}

// all lists the keys that the slot has had.
func (s *slot) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for i := range s.number + 1 {
		out = append(out, s.name+"-"+strconv.Itoa(i))
	}
	return out
}

// registrations begins the names of slots whose values are registrations.
const registrations = "reg"

// StartLoad lets so many clients work at each agent. What they do by chance comes
// from the seed; names tells several loads of one cluster apart.
func StartLoad(names string, seed uint64, clients int, targets []Target) *Load {
	l := &Load{
		History: NewHistory(), targets: targets, name: names,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients + 1}},
		kept:   map[string]string{}, denied: map[string]bool{}, local: map[[2]string]string{}, states: map[uint64]string{}, asked: map[string]int{},
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	for i := range loadSlots {
		l.slots = append(l.slots, &slot{name: fmt.Sprintf("%s/%d", names, i)}, &slot{name: fmt.Sprintf("%s%s%d", registrations, names, i)})
	}
	for i, t := range targets {
		for j := range clients {
			w := &worker{load: l, target: t, id: i*clients + j, random: rand.New(rand.NewPCG(seed, uint64(i*clients+j)))}
			l.wg.Go(w.run)
		}
	}
	l.wg.Go(l.watchStates)
	return l
}

// Pause waits until no client has a request under way, and lets none begin until
// Resume.
func (l *Load) Pause() { l.gate.Lock() }

// Resume lets the clients go on.
func (l *Load) Resume() { l.gate.Unlock() }

// Stop ends the clients. Requests under way are waited for.
func (l *Load) Stop() {
	l.cancel()
	l.wg.Wait()
	l.client.CloseIdleConnections()
}

// Answered is how many operations an agent has carried out.
func (l *Load) Answered(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[name]
}

// ReadAll has another client read all keys that are in use now at one agent, all
// at once, and waits for the answers.
func (l *Load) ReadAll(name, mode string) {
	var wg sync.WaitGroup
	for _, t := range l.targets {
		if t.Name != name {
			continue
		}
		for i, s := range l.slots {
			w := &worker{load: l, target: t, id: -1000 - i}
			wg.Go(func() { w.get(s, s.key(), mode) })
		}
	}
	wg.Wait()
}

// Lost says that an agent has lost its data, and what was registered there with it.
// Nobody can have been answered by the agent since.
func (l *Load) Lost(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.local {
		if id[0] == name {
			delete(l.local, id)
		}
	}
}

// checkLocal waits until the catalog has what is registered at the agents.
func (l *Load) checkLocal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for id, value := range l.local {
		for {
			var found []struct {
				Node    struct{ Node string }
				Service struct{ Meta map[string]string }
			}
			_, _, err := l.request(ctx, l.targets[0], http.MethodGet, "/v1/health/service/"+id[1]+"?consistent", nil, &found)
			if err == nil && len(found) == 1 && found[0].Node.Node == id[0] && found[0].Service.Meta["value"] == value {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("an acknowledged registration is lost: the catalog has %+v for %s, which is registered at %s as %s (%w)", found, id[1], id[0], value, err)
			case <-tick.C:
			}
		}
	}
	return nil
}

// Finish reads all keys once more, at all agents, and then checks all that was
// seen. The clients must have been stopped.
func (l *Load) Finish() error {
	l.ctx, l.cancel = context.WithCancel(context.Background())
	defer l.cancel()
	defer l.client.CloseIdleConnections()
	var errs []error
	errs = append(errs, l.checkLocal(l.ctx), l.SameState(l.ctx))
	ctx, cancel := context.WithTimeout(l.ctx, finishLimit)
	defer cancel()
	for i, t := range l.targets {
		w := &worker{load: l, target: t, id: -1 - i}
		for _, s := range l.slots {
			for _, key := range s.all() {
				errs = append(errs, until(ctx, func() error {
					if o := w.get(s, key, Consistent); o.Outcome != Done {
						return fmt.Errorf("%s cannot be read at %s in the end", key, t.Name)
					}
					return nil
				}))
			}
		}
		errs = append(errs, w.checkKept(ctx))
	}
	l.mu.Lock()
	errs = append(errs, l.odd.err())
	l.mu.Unlock()
	return errors.Join(append(errs, l.History.Check())...)
}

// until does something until it succeeds, at least once.
func until(ctx context.Context, do func() error) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// SameState waits until all servers have one index and one hash. Servers that have
// one index and different hashes are found at once.
func (l *Load) SameState(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*readyLimit)
	defer cancel()
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		err := l.lookAtStates(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the servers do not come to one state: %w", err)
		case <-tick.C:
		}
	}
}

// watchStates compares the servers for as long as the clients work.
func (l *Load) watchStates() {
	tick := time.NewTicker(hashInterval)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
			ctx, cancel := context.WithTimeout(l.ctx, hashInterval)
			_ = l.lookAtStates(ctx) // what is wrong for good is remembered
			cancel()
		}
	}
}

// lookAtStates asks all servers for their states, and says how they differ.
func (l *Load) lookAtStates(ctx context.Context) error {
	var first string
	for _, t := range l.targets {
		if !t.Server {
			continue
		}
		var self struct{ Stats map[string]map[string]string }
		if _, _, err := l.request(ctx, t, http.MethodGet, "/v1/agent/self", nil, &self); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		state := self.Stats["state"]
		index, err := strconv.ParseUint(state["index"], 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		l.mu.Lock()
		if known, ok := l.states[index]; ok && known != state["hash"] {
			l.odd.add("states differ", "at index %d %s has %s, another server %s", index, t.Name, state["hash"], known)
		}
		l.states[index] = state["hash"]
		l.mu.Unlock()
		here := state["index"] + " " + state["hash"]
		if first != "" && here != first {
			return fmt.Errorf("%s is at %s, another server at %s", t.Name, here, first)
		}
		first = here
	}
	return nil
}

// refusedError is an answer other than 200.
type refusedError struct {
	status int
	text   string
}

func (e *refusedError) Error() string { return fmt.Sprintf("%d %s", e.status, e.text) }

// request makes a request and reads the answer into v, if there is one.
func (l *Load) request(ctx context.Context, t Target, method, path string, body io.Reader, v any) (int, http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+t.Address+path, body)
	if err != nil {
		return 0, nil, err
	}
	response, err := l.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return 0, nil, err
	case response.StatusCode == http.StatusNotFound && method == http.MethodGet:
		return response.StatusCode, response.Header, nil
	case response.StatusCode != http.StatusOK:
		return response.StatusCode, response.Header, &refusedError{response.StatusCode, strings.TrimSpace(string(b))}
	}
	if v != nil {
		err = json.Unmarshal(b, v)
	}
	return response.StatusCode, response.Header, err
}

// outcomeOf tells what a failed request came to. The texts are those by which
// Muster says that nothing was done.
func outcomeOf(err error) Outcome {
	var refused *refusedError
	switch {
	case err == nil:
		return Done
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case !errors.As(err, &refused):
		return Unknown
	case strings.HasPrefix(refused.text, "No cluster leader"),
		strings.HasPrefix(refused.text, "No known Consul servers"),
		strings.HasPrefix(refused.text, "too little disk space"),
		strings.HasPrefix(refused.text, "Not ready to serve"),
		strings.HasPrefix(refused.text, "the agent is shutting down"):
		return Refused
	}
	return Unknown
}

// worker is one client.
type worker struct {
	load   *Load
	target Target
	id     int
	random *rand.Rand
	count  int
}

// run works until the load is stopped.
func (w *worker) run() {
	for {
		w.load.gate.RLock()
		outcome := w.step()
		w.load.gate.RUnlock()
		pause := time.Duration(w.random.Int64N(int64(thinkTime)))
		if outcome != Done {
			pause = refusedPause
		}
		timer := time.NewTimer(pause)
		select {
		case <-w.load.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// next is a value that nobody else writes.
func (w *worker) next() string {
	w.count++
	return fmt.Sprintf("%d.%d", w.id, w.count)
}

// modes are what reads ask for, by chance.
var modes = []string{Default, Default, Consistent, Stale}

// step does one thing, or a read and what follows from it.
func (w *worker) step() Outcome {
	s := w.load.slots[w.random.IntN(len(w.load.slots))]
	registration := strings.HasPrefix(s.name, registrations)
	key, chance := s.key(), w.random.IntN(100)
	mode := modes[w.random.IntN(len(modes))]
	switch {
	case chance < 50:
		return w.get(s, key, mode).Outcome
	case chance < 54:
		return w.keep()
	case chance < 55:
		return w.registerLocal()
	case registration && chance < 92, chance < 68:
		return w.change(s, Op{Key: key, Kind: Put, Value: w.next()}, 0)
	case registration, chance < 71:
		return w.change(s, Op{Key: key, Kind: Delete}, 0)
	}
	seen := w.get(s, key, mode)
	if seen.Outcome != Done {
		return seen.Outcome
	}
	o := Op{Key: key, Kind: CAS, Was: seen.Got, Value: w.next()}
	if chance > 92 && seen.Got != "" {
		o.Kind, o.Value = DeleteCAS, ""
	}
	return w.change(s, o, seen.Modified)
}

// limited bounds one request.
func (w *worker) limited() (context.Context, context.CancelFunc) {
	// A request that is under way is waited for when the load ends.
	return context.WithTimeout(context.WithoutCancel(w.load.ctx), requestLimit)
}

// add ends an operation and adds it to the history.
func (w *worker) add(s *slot, o Op, err error) Op {
	o.Client, o.Agent, o.Server = w.id, w.target.Name, w.target.Server
	o.Return, o.Outcome = w.load.History.Now(), outcomeOf(err)
	if o.Outcome == Unknown && o.Kind != Get {
		s.doubt()
	}
	if o.Outcome == Done {
		w.load.mu.Lock()
		w.load.asked[w.target.Name]++
		w.load.mu.Unlock()
	}
	w.load.History.Add(o)
	return o
}

// get reads a key or a registration.
func (w *worker) get(s *slot, key, mode string) Op {
	ctx, cancel := w.limited()
	defer cancel()
	o := Op{Kind: Get, Key: key, Mode: mode, Call: w.load.History.Now()}
	var (
		header http.Header
		err    error
	)
	if strings.HasPrefix(key, registrations) {
		var found []struct {
			Service struct {
				Meta        map[string]string
				ModifyIndex uint64
			}
		}
		_, header, err = w.load.request(ctx, w.target, http.MethodGet, "/v1/health/service/"+url.PathEscape(key)+"?"+mode, nil, &found)
		if len(found) > 0 {
			o.Got, o.Modified = found[0].Service.Meta["value"], found[0].Service.ModifyIndex
		}
	} else {
		var found []struct {
			Value       string
			ModifyIndex uint64
		}
		_, header, err = w.load.request(ctx, w.target, http.MethodGet, "/v1/kv/"+key+"?"+mode, nil, &found)
		if len(found) > 0 {
			value, _ := base64.StdEncoding.DecodeString(found[0].Value) // what is no value was never written
			o.Got, o.Modified = string(value), found[0].ModifyIndex
		}
	}
	if err == nil {
		o.Index, err = strconv.ParseUint(header.Get("X-Consul-Index"), 10, 64)
	}
	return w.add(s, o, err)
}

// change writes or removes a key or a registration. The index is that of what is
// expected to be there.
func (w *worker) change(s *slot, o Op, index uint64) Outcome {
	ctx, cancel := w.limited()
	defer cancel()
	o.Call = w.load.History.Now()
	method, path, body := http.MethodPut, "/v1/kv/"+o.Key, o.Value
	switch {
	case strings.HasPrefix(o.Key, registrations) && o.Kind == Put:
		path = "/v1/catalog/register"
		body = fmt.Sprintf(`{"Node":%q,"Address":"192.0.2.1","Service":{"ID":%q,"Service":%q,"Meta":{"value":%q}}}`, o.Key, o.Key, o.Key, o.Value)
	case strings.HasPrefix(o.Key, registrations):
		path = "/v1/catalog/deregister"
		body = fmt.Sprintf(`{"Node":%q}`, o.Key)
	case o.Kind == CAS:
		path += "?cas=" + strconv.FormatUint(index, 10)
	case o.Kind == Delete:
		method = http.MethodDelete
	case o.Kind == DeleteCAS:
		method = http.MethodDelete
		path += "?cas=" + strconv.FormatUint(index, 10)
	}
	_, _, err := w.load.request(ctx, w.target, method, path, strings.NewReader(body), &o.OK)
	return w.add(s, o, err).Outcome
}

// keep writes a key that nobody changes again.
func (w *worker) keep() Outcome {
	ctx, cancel := w.limited()
	defer cancel()
	value := w.next()
	key := w.load.name + "-kept/" + value
	_, _, err := w.load.request(ctx, w.target, http.MethodPut, "/v1/kv/"+key, strings.NewReader(value), nil)
	w.load.mu.Lock()
	defer w.load.mu.Unlock()
	outcome := outcomeOf(err)
	switch outcome {
	case Done:
		w.load.kept[key] = value
	case Refused:
		w.load.denied[key] = true
	}
	return outcome
}

// registerLocal registers an instance at the agent itself, which brings it into the
// catalog sooner or later.
func (w *worker) registerLocal() Outcome {
	ctx, cancel := w.limited()
	defer cancel()
	value, id := w.next(), fmt.Sprintf("local-%s-%d", w.target.Name, w.id)
	body := fmt.Sprintf(`{"Name":%q,"Meta":{"value":%q}}`, id, value)
	_, _, err := w.load.request(ctx, w.target, http.MethodPut, "/v1/agent/service/register", strings.NewReader(body), nil)
	w.load.mu.Lock()
	defer w.load.mu.Unlock()
	outcome := outcomeOf(err)
	switch outcome {
	case Done:
		w.load.local[[2]string{w.target.Name, id}] = value
	case Unknown:
		delete(w.load.local, [2]string{w.target.Name, id})
	}
	return outcome
}

// checkKept wants all that was acknowledged and kept to be there, and nothing that
// was refused, once it can be read.
func (w *worker) checkKept(ctx context.Context) error {
	var pairs []struct{ Key, Value string }
	mode := Consistent
	if w.target.Server {
		mode = Stale // what this server itself has
	}
	err := until(ctx, func() error {
		limited, cancel := w.limited()
		defer cancel()
		_, _, err := w.load.request(limited, w.target, http.MethodGet, "/v1/kv/"+w.load.name+"-kept/?recurse&"+mode, nil, &pairs)
		return err
	})
	if err != nil {
		return fmt.Errorf("what was kept cannot be read at %s: %w", w.target.Name, err)
	}
	found := map[string]string{}
	var f faults
	w.load.mu.Lock()
	defer w.load.mu.Unlock()
	for _, p := range pairs {
		value, _ := base64.StdEncoding.DecodeString(p.Value) // what is no value was never written
		found[p.Key] = string(value)
		if w.load.denied[p.Key] {
			f.add("there although it was refused", "%s at %s", p.Key, w.target.Name)
		}
	}
	for key, value := range w.load.kept {
		if found[key] != value {
			f.add("an acknowledged write is lost", "%s at %s has %q instead of %q", key, w.target.Name, found[key], value)
		}
	}
	return f.err()
}
