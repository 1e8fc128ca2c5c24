//! Serpent's S-boxes and rounds over words of any width: written once, compiled for each kind of vector.
//!
//! A word holds the same 32 bits of several blocks side by side, so one instruction is a step in all of them, and an S-box is a
//! few Boolean operations: no table, so no time that depends on keys or data. These are macros because intrinsics are safe
//! only within a function that names their target features, and neither a trait's methods nor generics can.

/// Makes the S-boxes over one kind of word out of `and`, `and_not`, `or`, `xor` and `not`.
///
/// Each is a chain of steps of the form `a ^= f(b, c)`, found by a search over all short ones. Such a step is its own inverse, so
/// the chain read backwards is the inverse S-box. S3, S4, S5 and S7 are odd permutations of the sixteen values, which such steps,
/// even ones all of them, never make: those have one step `a ^= f(b, c, d)`, which is odd. The tests hold all sixteen to the
/// tables of the specification.
macro_rules! substitutions {
    ($word:ty $(, #[$target:meta])?) => {
        two_ways! { $word $(, #[$target])?; sbox0 inverse0 [0, 1, 3, 2]
            (1 ^= 0 & 3) (3 ^= 0 ^ 1) (0 ^= !2 & 1) (2 ^= 3) (1 ^= 0 & 2) (3 ^= 0 & 1) (0 ^= !1 & 2) (! 0) (! 1) }
        two_ways! { $word $(, #[$target])?; sbox1 inverse1 [1, 2, 3, 0]
            (! 0) (! 2) (2 ^= 0 & 1) (0 ^= 1 | 3) (1 ^= 0 | 3) (3 ^= 2) (0 ^= !1 & 3) (2 ^= 0 ^ 1) (1 ^= !0 & 2) }
        two_ways! { $word $(, #[$target])?; sbox2 inverse2 [1, 2, 3, 0]
            (3 ^= 0 & 2) (0 ^= !1 & 3) (1 ^= 2 ^ 3) (2 ^= 0 & 3) (0 ^= 1) (3 ^= !2 & 0) (2 ^= 3) (! 0) }
        two_ways! { $word $(, #[$target])?; sbox3 inverse3 [1, 0, 2, 3]
            (3 ^= 0 | 1) (1 ^= 0 | 3) (3 ^= !1 & 2) (0 ^= 1 | 3) (2 ^= 0 | 1 | 3) (2 ^= 1 ^ 3) (0 ^= 2) (1 ^= !2 & 0) }
        two_ways! { $word $(, #[$target])?; sbox4 inverse4 [2, 1, 0, 3]
            (2 ^= !0 & 3) (0 ^= !2 & 1) (3 ^= 0 ^ 2) (2 ^= 1 & 3) (1 ^= 0 | 2 | 3) (1 ^= 0 ^ 3) (0 ^= !1 & 2) (! 2) }
        two_ways! { $word $(, #[$target])?; sbox5 inverse5 [2, 0, 1, 3]
            (2 ^= !0 & 1) (1 ^= !2 & 3) (3 ^= !2 & 0 & 1) (0 ^= 1 ^ 2) (2 ^= 0 & 3) (3 ^= 0 ^ 1) (1 ^= !3 & 2)
            (! 0) (! 1) (! 2) (! 3) }
        two_ways! { $word $(, #[$target])?; sbox6 inverse6 [0, 1, 2, 3]
            (! 2) (2 ^= 0 & 3) (1 ^= 2) (0 ^= 1 ^ 3) (3 ^= 0 | 1) (0 ^= !2 & 3) (2 ^= 0 ^ 3) (3 ^= !2 & 0) (! 3) }
        two_ways! { $word $(, #[$target])?; sbox7 inverse7 [3, 0, 2, 1]
            (3 ^= !1 & 2) (0 ^= 1 & 3) (2 ^= 0 & 3) (1 ^= 0 ^ 2) (2 ^= 0 | 1 | 3) (0 ^= 2 | 3) (3 ^= !1 & 2) (2 ^= 3) (! 3) }
    };
}

/// An S-box and its inverse from one chain of steps; the list names the word in which each bit of the result ends.
macro_rules! two_ways {
    ($word:ty $(, #[$target:meta])?; $sbox:ident $inverse:ident [$($out:literal),*] $($step:tt)*) => {
        $(#[$target])?
        #[inline]
        fn $sbox(bits: [$word; 4]) -> [$word; 4] {
            let mut words = bits;
            $(step!(words $step);)*
            [$(words[$out]),*]
        }

        $(#[$target])?
        #[inline]
        fn $inverse(bits: [$word; 4]) -> [$word; 4] {
            let mut words = bits;
            [$(words[$out]),*] = bits;
            backwards!(words [$($step)*] []);
            words
        }
    };
}

/// Steps from the last to the first.
macro_rules! backwards {
    ($words:ident [] [$($step:tt)*]) => { $(step!($words $step);)* };
    ($words:ident [$first:tt $($rest:tt)*] [$($done:tt)*]) => { backwards!($words [$($rest)*] [$first $($done)*]) };
}

macro_rules! step {
    ($w:ident (! $a:literal)) => {
        $w[$a] = not($w[$a])
    };
    ($w:ident ($a:literal ^= $b:literal)) => {
        $w[$a] = xor($w[$a], $w[$b])
    };
    ($w:ident ($a:literal ^= $b:literal ^ $c:literal)) => {
        $w[$a] = xor($w[$a], xor($w[$b], $w[$c]))
    };
    ($w:ident ($a:literal ^= $b:literal & $c:literal)) => {
        $w[$a] = xor($w[$a], and($w[$b], $w[$c]))
    };
    ($w:ident ($a:literal ^= !$b:literal & $c:literal)) => {
        $w[$a] = xor($w[$a], and_not($w[$c], $w[$b]))
    };
    ($w:ident ($a:literal ^= $b:literal | $c:literal)) => {
        $w[$a] = xor($w[$a], or($w[$b], $w[$c]))
    };
    ($w:ident ($a:literal ^= !$b:literal & $c:literal & $d:literal)) => {
        $w[$a] = xor($w[$a], and_not(and($w[$c], $w[$d]), $w[$b]))
    };
    ($w:ident ($a:literal ^= $b:literal | $c:literal | $d:literal)) => {
        $w[$a] = xor($w[$a], or($w[$b], or($w[$c], $w[$d])))
    };
}

/// Makes `encrypt_words` and `decrypt_words`, the cipher over blocks cut into words, out of the S-boxes and `broadcast`,
/// `rotate` and `shift` (both to the left).
macro_rules! rounds {
    ($word:ty $(, #[$target:meta])?) => {
        type State = [[$word; 4]; GROUPS];

        $(#[$target])?
        #[inline]
        fn encrypt_words(keys: &RoundKeys, state: &mut State) {
            let (octets, last) = keys.0.as_chunks::<8>();
            for (index, [k0, k1, k2, k3, k4, k5, k6, k7]) in octets.iter().enumerate() {
                if index != 0 {
                    mix(state);
                }
                add(state, k0);
                substitute!(state sbox0);
                mix(state);
                add(state, k1);
                substitute!(state sbox1);
                mix(state);
                add(state, k2);
                substitute!(state sbox2);
                mix(state);
                add(state, k3);
                substitute!(state sbox3);
                mix(state);
                add(state, k4);
                substitute!(state sbox4);
                mix(state);
                add(state, k5);
                substitute!(state sbox5);
                mix(state);
                add(state, k6);
                substitute!(state sbox6);
                mix(state);
                add(state, k7);
                substitute!(state sbox7);
            }
            for key in last {
                add(state, key);
            }
        }

        $(#[$target])?
        #[inline]
        fn decrypt_words(keys: &RoundKeys, state: &mut State) {
            let (octets, last) = keys.0.as_chunks::<8>();
            for key in last {
                add(state, key);
            }
            for (index, [k0, k1, k2, k3, k4, k5, k6, k7]) in octets.iter().enumerate().rev() {
                substitute!(state inverse7);
                add(state, k7);
                unmix(state);
                substitute!(state inverse6);
                add(state, k6);
                unmix(state);
                substitute!(state inverse5);
                add(state, k5);
                unmix(state);
                substitute!(state inverse4);
                add(state, k4);
                unmix(state);
                substitute!(state inverse3);
                add(state, k3);
                unmix(state);
                substitute!(state inverse2);
                add(state, k2);
                unmix(state);
                substitute!(state inverse1);
                add(state, k1);
                unmix(state);
                substitute!(state inverse0);
                add(state, k0);
                if index != 0 {
                    unmix(state);
                }
            }
        }

        $(#[$target])?
        #[inline]
        fn add(state: &mut State, key: &[u32; 4]) {
            for words in state {
                for (word, key) in words.iter_mut().zip(key) {
                    *word = xor(*word, broadcast(*key));
                }
            }
        }

        /// The linear transformation.
        $(#[$target])?
        #[inline]
        fn mix(state: &mut State) {
            for [a, b, c, d] in state {
                *a = rotate::<13>(*a);
                *c = rotate::<3>(*c);
                *b = rotate::<1>(xor(*b, xor(*a, *c)));
                *d = rotate::<7>(xor(*d, xor(*c, shift::<3>(*a))));
                *a = rotate::<5>(xor(*a, xor(*b, *d)));
                *c = rotate::<22>(xor(*c, xor(*d, shift::<7>(*b))));
            }
        }

        /// The inverse of the linear transformation.
        $(#[$target])?
        #[inline]
        fn unmix(state: &mut State) {
            for [a, b, c, d] in state {
                *c = xor(rotate::<10>(*c), xor(*d, shift::<7>(*b)));
                *a = xor(rotate::<27>(*a), xor(*b, *d));
                *d = xor(rotate::<25>(*d), xor(*c, shift::<3>(*a)));
                *b = xor(rotate::<31>(*b), xor(*a, *c));
                *c = rotate::<29>(*c);
                *a = rotate::<19>(*a);
            }
        }
    };
}

macro_rules! substitute {
    ($state:ident $sbox:ident) => {
        for words in $state.iter_mut() {
            *words = $sbox(*words);
        }
    };
}

pub(in crate::crypto::cipher) use {backwards, rounds, step, substitute, substitutions, two_ways};
