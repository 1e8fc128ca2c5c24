//! A volume made visible: the decrypted block file. Knows no key and no format.
