/** libbus.js: the bus in a page. docs/guide/browser.md is its guide. */

export type State =
	/** Not yet connected, or nobody listens. */
	| "connecting"
	| "live"
	/** Connected, but no message for `staleAfter` milliseconds. */
	| "stale"
	/** The connection is lost; the client tries again by itself. */
	| "reconnecting"
	/** By close(), or the server said no for good. */
	| "closed";

/** A value as JSON has it; integers beyond 2^53 as their digits, arrays of numbers as typed arrays with a shape. */
export type Value = unknown;

export interface Message<T = Value> {
	topic: string;
	value: T;
	/** A value that was kept, and no new event. */
	kept: boolean;
	/** How many messages this page lost right before this one. */
	lost: number;
}

/** Where a listener begins; without one, with the values that are kept. */
export interface Past {
	/** Begin with this many of the last messages. */
	last?: number;
	/** With what was published since then, in seconds since 1970. */
	since?: number;
}

/** What the server's authorization refused. */
export interface Denied {
	topic?: string;
	filter?: string;
	message: string;
}

export interface Options {
	/** Milliseconds without a message until the state is "stale"; 0: never. */
	staleAfter?: number;
	/** Where the shared worker's script is, on this origin; false: a connection for each tab. */
	worker?: string | false;
	/** The first wait before a new attempt, which doubles up to maxRetryMs: 500. */
	retryMs?: number;
	/** 10,000. */
	maxRetryMs?: number;
	/** How long an answer may take: 5,000. */
	answerMs?: number;
	/** How long a connection may take to its first event: 10,000. */
	openMs?: number;
}

export interface Bus {
	readonly state: State;
	/** Why the page is not live, in one sentence; empty while it is. */
	readonly reason: string;
	/** Whether the connection is that of all tabs. */
	readonly shared: boolean;

	/** Runs when the state or the reason changes. */
	onstate: ((state: State, reason: string) => void) | null;
	/** Called with the number of messages that were lost; the next message has it in `lost`. */
	onlost: ((lost: number) => void) | null;
	/** Messages were missed that nobody can count; kept values follow. */
	onreset: ((reason: string) => void) | null;
	ondenied: ((denied: Denied) => void) | null;

	/** Calls fn for every message that matches; returns a function that ends it. */
	on<T = any>(filter: string, fn: (value: T, msg: Message<T>) => void, past?: Past): () => void;
	/** Publishes a value that JSON can hold; rejects with the server's reason. */
	publish(topic: string, value?: Value): Promise<void>;
	close(): void;
}

export interface Libbus {
	/**
	 * A bus of this page.
	 * @param prefix url_prefix of the server's Bus; by default where the script came from, or "/bus".
	 */
	(prefix?: string, options?: Options): Bus;
	/** Where libbus.js came from. */
	src: string;
}

export const libbus: Libbus;

declare global {
	/** Of the classic script. */
	var libbus: Libbus;
}
