/** libbus.js: the bus in a page. Guide: docs/guide/browser.md. */

export type State =
	/** Not yet connected, or without a listener. */
	| "connecting"
	| "live"
	/** Connected, but no message for `staleAfter` milliseconds. */
	| "stale"
	/** The connection is lost; the client reconnects by itself. */
	| "reconnecting"
	/** Closed by close(), or refused by the server for good. */
	| "closed";

/** A JSON value; integers beyond 2^53 are strings of digits, arrays of numbers are typed arrays with a shape. */
export type Value = unknown;

export interface Message<T = Value> {
	topic: string;
	value: T;
	/** True: the topic's kept value, not a new event. */
	kept: boolean;
	/** The number of messages that this page lost right before this one. */
	lost: number;
}

/** The first message of a listener; without it a listener begins with the kept values. */
export interface Past {
	/** Begin with this many of the last messages. */
	last?: number;
	/** Begin with the messages published since this moment, in seconds since 1970. */
	since?: number;
}

/** A refusal by the server's authorization. */
export interface Denied {
	topic?: string;
	filter?: string;
	message: string;
}

export interface Options {
	/** Milliseconds without a message until the state is "stale"; 0: never. */
	staleAfter?: number;
	/** The URL of the shared worker's script, on this origin; false: each tab has a separate connection. */
	worker?: string | false;
	/** Milliseconds before the first new attempt, doubled up to maxRetryMs: 500. */
	retryMs?: number;
	/** The longest wait before a new attempt, in milliseconds: 10,000. */
	maxRetryMs?: number;
	/** Timeout of an answer, in milliseconds: 5,000. */
	answerMs?: number;
	/** Timeout of a connection's first event, in milliseconds: 10,000. */
	openMs?: number;
}

export interface Bus {
	readonly state: State;
	/** The reason why the page is not live, in one sentence; empty while it is. */
	readonly reason: string;
	/** Whether all tabs share the connection. */
	readonly shared: boolean;

	/** Called when the state or the reason changes. */
	onstate: ((state: State, reason: string) => void) | null;
	/** Called with the number of lost messages; the next message has it in `lost`. */
	onlost: ((lost: number) => void) | null;
	/** Called when an unknown number of messages was missed; kept values follow. */
	onreset: ((reason: string) => void) | null;
	ondenied: ((denied: Denied) => void) | null;

	/** Calls fn for every matching message; returns a function that ends the listener. */
	on<T = any>(filter: string, fn: (value: T, msg: Message<T>) => void, past?: Past): () => void;
	/** Publishes a value that JSON can hold; rejects with the server's reason. */
	publish(topic: string, value?: Value): Promise<void>;
	close(): void;
}

export interface Libbus {
	/**
	 * A bus of this page.
	 * @param prefix url_prefix of the server's Bus; by default the prefix of the script's own URL, or "/bus".
	 */
	(prefix?: string, options?: Options): Bus;
	/** The URL of libbus.js. */
	src: string;
}

export const libbus: Libbus;

declare global {
	/** The global of the classic script. */
	var libbus: Libbus;
}
