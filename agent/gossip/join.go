package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Run rejoins the members of the snapshot, tries failed ones again and forgets
// those gone for too long, until ctx ends.
func (p *Pool) Run(ctx context.Context) error {
	p.ran.Store(true)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()

	var rejoin sync.WaitGroup
	defer rejoin.Wait()
	rejoin.Go(func() { p.rejoin(ctx) })
	rejoin.Go(func() { p.watch(ctx) })
	reap := time.NewTicker(p.timing.ReapInterval)
	defer reap.Stop()
	reconnect := time.NewTicker(p.timing.ReconnectInterval)
	defer reconnect.Stop()
	save := time.NewTicker(snapshotInterval)
	defer save.Stop()
	reassert := time.NewTicker(reassertInterval)
	defer reassert.Stop()
	for {
		select {
		case <-ctx.Done():
			p.saveIfDirty()
			return nil
		case now := <-reap.C:
			p.mu.Lock()
			p.reap(now)
			p.mu.Unlock()
		case <-reconnect.C:
			p.reconnect(ctx)
		case <-save.C:
			p.saveIfDirty()
		case now := <-reassert.C:
			p.reassert(ctx, now)
			p.catchUp(ctx, now)
		}
	}
}

// rejoin joins the members of the snapshot until one answers.
func (p *Pool) rejoin(ctx context.Context) {
	for {
		p.mu.Lock()
		var targets []netip.AddrPort
		for _, m := range p.known {
			targets = append(targets, m.Address)
		}
		alone := len(p.others()) == 0
		p.mu.Unlock()
		if len(targets) == 0 {
			return
		}
		if !alone {
			break // somebody else found this member first
		}
		rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
		n, err := p.joinAll(ctx, targets[:min(len(targets), maxJoinExpanded)])
		if n > 0 {
			p.logger.Info("rejoined the gossip pool", "members", n)
			p.planCatchUps()
			break
		}
		if ctx.Err() != nil {
			return
		}
		if ok, _ := p.limit.allow("rejoin", time.Now()); ok {
			p.logger.Warn("cannot rejoin the gossip members known last, and will try again", "addresses", len(targets), "error", err)
		}
		pause(ctx, p.timing.ReconnectInterval)
	}
	pause(ctx, p.timing.ReconnectInterval)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.adoptMissing(time.Now())
}

// reconnect tries to reach one failed member. A client that knows no server any more
// also tries those that it once dropped as members of another cluster: it has moved
// there, or they have come here.
func (p *Pool) reconnect(ctx context.Context) {
	p.mu.Lock()
	var failed []netip.AddrPort
	for _, r := range p.table {
		if r.status == Failed && !r.answers {
			failed = append(failed, r.addrPort())
		}
	}
	if !p.server && len(p.aliveServers(p.name)) == 0 {
		for at := range p.lost {
			failed = append(failed, at)
		}
	}
	p.mu.Unlock()
	if len(failed) == 0 {
		return
	}
	at := failed[rand.IntN(len(failed))]
	if err := p.joinOne(ctx, at); err != nil {
		p.logger.Debug("cannot reach a failed member", "address", at, "error", err)
	} else {
		p.logger.Info("reached a failed member again", "address", at)
	}
}

// reassert joins again while others hold a previous life of this member at
// another address.
func (p *Pool) reassert(ctx context.Context, now time.Time) {
	p.mu.Lock()
	others := p.others()
	needed := now.Before(p.reassertUntil) && !p.leaving && len(others) > 0
	var at netip.AddrPort
	if needed {
		at = others[rand.IntN(len(others))].addrPort()
	}
	p.reassertUntil = time.Time{} // set again if it is still so
	p.mu.Unlock()
	if !needed {
		return
	}
	if err := p.joinOne(ctx, at); err != nil {
		p.logger.Debug("cannot tell a member of this one's new address", "address", at, "error", err)
		p.mu.Lock()
		p.reassertUntil = now.Add(reassertLimit)
		p.mu.Unlock()
	}
}

// planCatchUps has state exchanged again shortly after a join.
func (p *Pool) planCatchUps() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.catchUps = p.catchUps[:0]
	for i := range 3 {
		wait := catchUpAfter << i
		p.catchUps = append(p.catchUps, time.Now().Add(wait+rand.N(wait)))
	}
}

// catchUp exchanges state with some member if it is time to.
func (p *Pool) catchUp(ctx context.Context, now time.Time) {
	p.mu.Lock()
	others := p.others()
	if len(p.catchUps) == 0 || now.Before(p.catchUps[0]) || len(others) == 0 || p.leaving {
		p.mu.Unlock()
		return
	}
	p.catchUps = p.catchUps[1:]
	at := others[rand.IntN(len(others))].addrPort()
	p.mu.Unlock()
	if err := p.joinOne(ctx, at); err != nil {
		p.logger.Debug("cannot exchange state with a member", "address", at, "error", err)
	}
}

// Join exchanges members with those at the addresses. It returns how many
// answered, and the reasons of those who did not.
func (p *Pool) Join(ctx context.Context, addresses []string) (n int, err error) {
	if len(addresses) > maxJoin {
		return 0, fmt.Errorf("cannot join %d addresses at once: the limit is %d", len(addresses), maxJoin)
	}
	if p.ctx.Err() != nil {
		return 0, ErrClosed
	}
	var targets []netip.AddrPort
	var errs []error
	for _, address := range addresses {
		found, err := p.expand(ctx, address)
		if err != nil {
			errs = append(errs, fmt.Errorf("Failed to join %s: %w", address, err))
			continue
		}
		for _, at := range found {
			if !slices.Contains(targets, at) {
				targets = append(targets, at)
			}
		}
		if len(targets) > maxJoinExpanded {
			return 0, fmt.Errorf("cannot join: the addresses stand for more than %d", maxJoinExpanded)
		}
	}
	n, err = p.joinAll(ctx, targets)
	if n > 0 {
		p.planCatchUps()
	}
	return n, errors.Join(append(errs, err)...)
}

// joinAll joins several addresses, some at a time.
func (p *Pool) joinAll(ctx context.Context, targets []netip.AddrPort) (int, error) {
	errs := make([]error, len(targets))
	var group sync.WaitGroup
	places := make(chan struct{}, parallelJoins)
	for i, at := range targets {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			if err := p.joinOne(ctx, at); err != nil {
				errs[i] = fmt.Errorf("Failed to join %s: %w", at, err)
			}
		})
	}
	group.Wait()
	n := 0
	for _, err := range errs {
		if err == nil {
			n++
		}
	}
	err := errors.Join(errs...)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case IsRefusal(err):
		p.refused = err
	case n > 0:
		p.refused = nil
	}
	return n, err
}

// Refused says why the pool did not let this member in when it tried last, or nil.
// What it knows of the members then is true, but its own name or ID is another's.
func (p *Pool) Refused() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// joinOne exchanges state with the member at an address, unless ctx ends first.
func (p *Pool) joinOne(ctx context.Context, at netip.AddrPort) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	p.mu.Lock()
	if p.ctx.Err() != nil {
		p.mu.Unlock()
		return ErrClosed
	}
	p.spawn(func() {
		_, err := p.list.Load().Join([]string{at.String()})
		done <- err
	})
	p.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.ctx.Done():
		return ErrClosed
	case err := <-done:
		if err != nil {
			return joinError(at, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Whoever is there is known, and was not let in again.
	if d, ok := p.lost[at]; ok {
		return p.errDropped(at, d)
	}
	if p.transport.shunned.has(at) {
		return fmt.Errorf("it belongs to another cluster than this agent: %w", errForeign)
	}
	err := p.rejection
	p.rejection = nil
	return err
}

// joinError puts memberlist's error in the words of this package.
func joinError(at netip.AddrPort, err error) error {
	if one := errors.Unwrap(err); one != nil {
		err = one // memberlist lists the one error there is
	}
	text := strings.TrimPrefix(err.Error(), "failed to join "+at.String()+": ")
	switch {
	case strings.Contains(text, undecipherable):
		text = "its gossip key is not this agent's (encrypt): " + text
	case strings.Contains(text, "encryption is configured but remote state is not encrypted"):
		text = "one of both agents has no gossip key (encrypt): " + text
	case strings.Contains(text, "remote state is encrypted and encryption is not configured"):
		text = "it has a gossip key and this agent has none (encrypt): " + text
	case text == "EOF":
		text = "it closed the connection, and its log may say why"
	}
	return errors.New(strings.TrimPrefix(text, refusalMark))
}

// expand returns the addresses that one address of a join stands for: an IP
// address or a host name, with or without a port.
func (p *Pool) expand(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, port, err := splitAddress(address, p.addr.Port())
	if err != nil {
		return nil, err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap().WithZone(""), port)}, nil
	}
	addrs, err := p.lookup(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("cannot look %q up: %w", host, err)
	}
	var out []netip.AddrPort
	for _, addr := range addrs {
		if at := netip.AddrPortFrom(addr.Unmap().WithZone(""), port); !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the name %q has no address", host)
	}
	return out, nil
}

// splitAddress cuts a host and a port from an address that may lack the port.
func splitAddress(address string, defaultPort uint16) (host string, port uint16, err error) {
	address = strings.TrimSpace(address)
	if address == "" {
		return "", 0, errors.New("the address is empty")
	}
	bare := address
	if strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]") {
		bare = bare[1 : len(bare)-1]
	}
	if addr, err := netip.ParseAddr(bare); err == nil {
		return addr.String(), defaultPort, nil
	}
	if !strings.Contains(address, ":") {
		return address, defaultPort, nil
	}
	host, word, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(word, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("%q is no host with a port of 1 to 65535", address)
	}
	return host, uint16(n), nil
}
