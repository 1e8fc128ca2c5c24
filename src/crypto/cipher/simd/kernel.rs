//! What stands between a kernel, which takes a group of blocks, and the traits of the `cipher` crate.

/// Makes `encrypt_with` and `decrypt_with`, which hand the kernel to a mode, out of `encrypt` and `decrypt`, which take keys and
/// one group of `GroupSize` blocks.
///
/// Where a group takes longer than a few blocks `alone`, those are left to `encrypt_alone` and `decrypt_alone` of the keys.
macro_rules! backend {
    ($proof:ident, $features:literal, $keys:ty $(, alone up to $alone:literal)?) => {
        use std::slice;

        use aes::cipher::{
            Array, BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherEncBackend, BlockCipherEncClosure,
            BlockSizeUser, ParBlocksSizeUser,
            consts::U16,
            inout::{InOut, InOutBuf},
        };

        use crate::crypto::xts::Block;

        /// Lets `work` encrypt, in a function compiled for the kernel's instructions: what is inlined there is too.
        pub(in crate::crypto::cipher) fn encrypt_with(
            _: $proof,
            keys: &$keys,
            work: impl BlockCipherEncClosure<BlockSize = U16>,
        ) {
            // SAFETY: the proof says that the processor has the instructions.
            unsafe { call_encrypting(&Kernel(keys), work) }
        }

        /// Lets `work` decrypt; else as [`encrypt_with`].
        pub(in crate::crypto::cipher) fn decrypt_with(
            _: $proof,
            keys: &$keys,
            work: impl BlockCipherDecClosure<BlockSize = U16>,
        ) {
            // SAFETY: the proof says that the processor has the instructions.
            unsafe { call_decrypting(&Kernel(keys), work) }
        }

        #[target_feature(enable = $features)]
        fn call_encrypting(kernel: &Kernel<'_>, work: impl BlockCipherEncClosure<BlockSize = U16>) {
            work.call(kernel);
        }

        #[target_feature(enable = $features)]
        fn call_decrypting(kernel: &Kernel<'_>, work: impl BlockCipherDecClosure<BlockSize = U16>) {
            work.call(kernel);
        }

        /// Made only where there is a proof of the instructions.
        struct Kernel<'a>(&'a $keys);

        type Group = Array<Block, GroupSize>;

        impl BlockSizeUser for Kernel<'_> {
            type BlockSize = U16;
        }

        impl ParBlocksSizeUser for Kernel<'_> {
            type ParBlocksSize = GroupSize;
        }

        impl BlockCipherEncBackend for Kernel<'_> {
            #[inline]
            fn encrypt_block(&self, block: InOut<'_, '_, Block>) {
                self.encrypt_tail_blocks(slice::from_mut(block.into_out_with_copied_in()).into());
            }

            #[inline]
            fn encrypt_par_blocks(&self, group: InOut<'_, '_, Group>) {
                // SAFETY: that there is a `Kernel` says that the processor has the instructions.
                unsafe { encrypt(self.0, group.into_out_with_copied_in()) }
            }

            #[inline]
            fn encrypt_tail_blocks(&self, blocks: InOutBuf<'_, '_, Block>) {
                let blocks = blocks.into_out_with_copied_in();
                $(if blocks.len() <= $alone {
                    return blocks.iter_mut().for_each(|block| self.0.encrypt_alone(block));
                })?
                padded(blocks, |group| self.encrypt_par_blocks_inplace(group));
            }
        }

        impl BlockCipherDecBackend for Kernel<'_> {
            #[inline]
            fn decrypt_block(&self, block: InOut<'_, '_, Block>) {
                self.decrypt_tail_blocks(slice::from_mut(block.into_out_with_copied_in()).into());
            }

            #[inline]
            fn decrypt_par_blocks(&self, group: InOut<'_, '_, Group>) {
                // SAFETY: that there is a `Kernel` says that the processor has the instructions.
                unsafe { decrypt(self.0, group.into_out_with_copied_in()) }
            }

            #[inline]
            fn decrypt_tail_blocks(&self, blocks: InOutBuf<'_, '_, Block>) {
                let blocks = blocks.into_out_with_copied_in();
                $(if blocks.len() <= $alone {
                    return blocks.iter_mut().for_each(|block| self.0.decrypt_alone(block));
                })?
                padded(blocks, |group| self.decrypt_par_blocks_inplace(group));
            }
        }

        /// Works on less than a group: the kernel takes no longer for a whole one.
        fn padded(blocks: &mut [Block], work: impl FnOnce(&mut Group)) {
            let mut group = Group::default();
            group[..blocks.len()].copy_from_slice(blocks);
            work(&mut group);
            blocks.copy_from_slice(&group[..blocks.len()]);
        }
    };
}

pub(super) use backend;
